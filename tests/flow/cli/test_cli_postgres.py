"""Commands and doctor on PostgreSQL: what cannot be reached, what is set wrong, who runs, the bell and the bodies."""

from __future__ import annotations

import json
import signal
import socket
import time

import psycopg
import pytest

from bench.services import NatsServer, PostgresServer
from hub.app.beside import opened
from hub.app.config import load
from hub.ledger import members
from hub.ledger.members import Joining
from hub.store import postgres_examination
from hub.store.examination import examined as examine
from hub.store.place import place_of

QUIET = ("free disk", "open files", "disk sync")  # what depends on the machine that runs the tests
SECRET = "correct-horse-battery"


def examined(one) -> tuple[int, dict[str, dict]]:
    done = one.cli("doctor", "--json")
    document = json.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0)
    assert all(check["next"] for check in document["checks"] if check["level"] != "ok"), document
    return done.returncode, {check["check"]: check for check in document["checks"]}


def levels(found: dict[str, dict]) -> dict[str, str]:
    return {name: check["level"] for name, check in found.items() if check["level"] != "ok" and name not in QUIET}


# ---- a server that is not to be had ----------------------------------------------------------------------------------


@pytest.fixture
def guarded(postgres_server):
    """A role of the server that needs a password, and its database; their names."""
    name = "locked"
    hba = postgres_server.data / "pg_hba.conf"
    before = hba.read_text()
    url = postgres_server.create_database()
    database = url.rpartition("/")[2]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS locked")
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
        connection.execute(f"ALTER DATABASE {database} OWNER TO {name}")
        hba.write_text(f"host all {name} 127.0.0.1/32 scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        yield url.replace("postgres@", f"{name}@"), database
        hba.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
    postgres_server.drop_database(url)


def refused(one) -> str:
    """What every command says, the same sentence each time."""
    said = set()
    for command in (
        ("messages", "list"),
        ("token", "list"),
        ("db", "upgrade"),
        ("token", "create", "--name", "x", "--role", "operator"),
    ):
        done = one.cli(*command)
        assert (done.returncode, done.stdout) == (1, ""), command
        assert done.stderr.count("\n") == 1
        said.add(done.stderr)
    code, found = examined(one)
    assert code == 1
    assert found["database"]["level"] == "wrong"
    assert {found["database"]["says"] + "\n"} == said
    assert SECRET not in done.stderr + json.dumps(found)
    assert "wrong-word" not in done.stderr + json.dumps(found)
    return done.stderr


def test_a_server_that_is_not_there(clustered, a_free_port):
    port = a_free_port()
    clustered.url = f"postgresql://127.0.0.1:{port}/hub"
    clustered.configure()
    assert refused(clustered) == f"no server answers at 127.0.0.1:{port}: is it running, and is [store] url right?\n"
    assert clustered.cli("try", clustered.write("a.hl7")).returncode == 0  # in a store of its own
    assert clustered.cli("check").returncode == 0


def test_a_database_that_is_not_there(clustered):
    clustered.url = clustered.url.rpartition("/")[0] + "/nowhere"
    clustered.configure()
    assert refused(clustered) == f"the server has no database nowhere ({clustered.url}): createdb nowhere\n"


def test_a_password_that_is_wrong_or_missing(clustered, guarded):
    url, _database = guarded
    clustered.url = url
    clustered.configure()
    assert "asks for a password: put it in a file, [store] password_file" in refused(clustered)
    (clustered.folder / "password").write_text("wrong-word\n")
    clustered.configure(store='password_file = "password"')
    assert "does not let locked in (user or password is wrong): its log says why" in refused(clustered)
    (clustered.folder / "password").write_text(f"{SECRET}\n")
    done = clustered.cli("db", "upgrade")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert clustered.cli("messages", "list").stdout == "No message.\n"


def test_a_user_without_rights(clustered, guarded, postgres_server):
    url, database = guarded
    with psycopg.connect(postgres_server.url(database), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} OWNER TO postgres")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        clustered.url = url
        (clustered.folder / "password").write_text(SECRET)
        clustered.configure(store='password_file = "password"')
        done = clustered.cli("db", "upgrade")
        assert (done.returncode, "may not make tables there: make it the owner" in done.stderr) == (1, True)
        connection.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
        done = clustered.cli("messages", "list")
        assert (done.returncode, f"does not let locked into the database {database}" in done.stderr) == (1, True)


# ---- doctor ----------------------------------------------------------------------------------------------------------


def test_an_empty_database(clustered):
    code, found = examined(clustered)
    assert (code, levels(found)) == (0, {"data folder": "warning", "schema": "warning", "large bodies": "warning"})
    assert not clustered.data.exists()
    clustered.sql("CREATE TABLE alembic_version (version_num text)")
    clustered.sql("INSERT INTO alembic_version VALUES ('9999')")
    code, found = examined(clustered)
    assert (code, found["schema"]["next"]) == (1, "install the newer version again")


def test_a_running_and_a_stopped_hub(clustered):
    blobs = clustered.folder / "blobs"
    blobs.mkdir()
    clustered.configure(store='blobs = "blobs"')
    clustered.start()
    code, found = examined(clustered)
    assert (code, levels(found)) == (0, {}), found
    assert found["source his"]["says"] == f"127.0.0.1:{clustered.mllp} is answered"
    assert found["readiness"]["says"] == "the hub takes messages"
    assert found["process 0"]["says"].startswith(f"all on {socket.gethostname()}, process {clustered.process.pid}, version ")
    assert found["large bodies"]["says"] == f"{blobs} takes writes; it must be the same folder on every machine (NFS)"
    assert [path for path in blobs.rglob("*") if path.is_file()] == []
    for name in ("PostgreSQL", "schema", "fsync", "full_page_writes", "synchronous_commit", "connections", "server clock"):
        assert found[name]["level"] == "ok"
    assert found["connection"]["says"] == "does not leave this machine"
    assert clustered.cli("doctor").stdout.startswith(f"{clustered.file}: hub running, process {clustered.process.pid}\n")
    clustered.stop()
    code, found = examined(clustered)
    assert (code, levels(found)) == (0, {}), found
    assert found["source his"]["says"] == f"127.0.0.1:{clustered.mllp} is free"
    assert "process 0" not in found
    blobs.rename(clustered.folder / "away")
    code, found = examined(clustered)
    assert (code, levels(found)) == (1, {"large bodies": "wrong"})
    assert "the blob folder is not there" in found["large bodies"]["says"]


def test_processes_and_lanes(clustered):
    clustered.cli("db", "upgrade")
    now = int(time.time() * 1e6)
    with opened(load(clustered.file)) as store:
        for role, host, version, seen in (("edge", "one", "1.0", now), ("worker", "two", "1.1", now - 60_000_000)):
            who = Joining(f"{host}:1:x", "a-session", role, host, 1, version)
            store.write(lambda tx, who=who, seen=seen: members.join(tx, who, now=seen, lease_until=seen + 3_000_000))
    clustered.sql("INSERT INTO lane VALUES ('dmp/p1', 'dmp', 1, 0, NULL, 0, 'no adapter yet')")
    code, found = examined(clustered)
    assert code == 0
    assert found["process 0"] == {
        "check": "process 0",
        "level": "ok",
        "says": "edge on one, process 1, version 1.0",
        "next": None,
    }
    assert found["process 1"]["says"] == "worker on two, process 1, version 1.1: silent for 60 s longer than the others"
    assert found["process 1"]["level"] == "warning"
    assert found["processes"]["says"] == "none has the role web"
    assert "run different versions" in clustered.cli("doctor").stdout
    assert found["lanes to dmp"]["says"] == "1 lane blocked: no adapter yet"


def test_a_server_that_may_lose_what_was_acknowledged(clustered):
    settings = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "8"}
    with PostgresServer(settings=settings) as server:
        clustered.url = server.create_database()
        clustered.configure()
        clustered.cli("db", "upgrade")
        code, found = examined(clustered)
    assert code == 1
    wrong = {name for name, level in levels(found).items() if level == "wrong"}
    assert wrong == {"fsync", "full_page_writes", "synchronous_commit", "connections"}
    assert found["fsync"]["says"] == "is off: a power cut destroys the database"
    assert "1 processes of the hub take up to 9" in found["connections"]["says"]


def test_a_transaction_that_is_left_open(clustered, tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_examination, "LONG_TRANSACTION_S", 0)
    with psycopg.connect(clustered.url, application_name="left open") as other:
        other.execute("SELECT 1")
        place = place_of(clustered.url, base=tmp_path, default=tmp_path / "x")
        (found,) = [one for one in examine(place) if one.check == "long transaction"]
    assert found.says.startswith("left open (process ")
    assert not [one for one in examine(place) if one.check == "long transaction"]


def test_the_bell(clustered, nats_server, a_free_port):
    clustered.cli("db", "upgrade")

    def bells(url: str) -> dict[str, str]:
        clustered.configure(f'[bell]\nurl = "{url}"\n')
        code, found = examined(clustered)
        assert code == 0
        return {name.partition(" ")[2]: check["says"] for name, check in found.items() if name.startswith("bell ")}

    there, gone = nats_server.url.removeprefix("nats://"), f"127.0.0.1:{a_free_port()}"
    assert bells(f"nats://{there},nats://{gone}") == {
        there: "answers, with JetStream",
        gone: "does not answer (ConnectionRefusedError): other processes hear of work later, nothing is lost",
    }
    assert bells(f"tls://{there}")[there].startswith("does not offer TLS: ")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        assert bells(f"nats://{where}")[where].startswith("does not answer: ")
    postgres = clustered.url.partition("@")[2].partition("/")[0]
    assert not bells(f"nats://{postgres}")[postgres].startswith("answers")


@pytest.mark.usefixtures("nats_server")  # there is one to start
def test_the_certificate_of_the_bell(clustered, tmp_path, certified):
    ca, cert, key = certified
    clustered.cli("db", "upgrade")
    with NatsServer(tmp_path / "nats", f'tls {{ cert_file: "{cert}", key_file: "{key}" }}') as server:
        where = f"127.0.0.1:{server.port}"
        for file, says in ((ca, "answers, with JetStream"), (None, "has a certificate that does not hold")):
            more = f'tls_ca_file = "{file}"\n' if file else ""
            clustered.configure(f'[bell]\nurl = "tls://{where}"\n{more}')
            assert examined(clustered)[1][f"bell {where}"]["says"].startswith(says)


@pytest.fixture
def certified(tmp_path):
    """An authority, and a certificate of 127.0.0.1 with its key; files, PEM."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(UTC)

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def builder(subject: str) -> x509.CertificateBuilder:
        made = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("ca"))
            .serial_number(x509.random_serial_number())
        )
        return made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = builder("ca").public_key(ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    cert = builder("nats").public_key(key.public_key()).add_extension(names, False)
    files = tmp_path / "ca.pem", tmp_path / "nats.pem", tmp_path / "nats.key"
    pem = serialization.Encoding.PEM
    files[0].write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    files[1].write_bytes(cert.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    files[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def test_a_process_that_runs_with_another_file_is_seen(clustered):
    clustered.start()
    code, found = examined(clustered)
    assert "configuration" not in found and ", configuration " in found["process 0"]["says"]
    clustered.configure("[retention]\ndone_days = 30\n")
    code, found = examined(clustered)
    assert (code, found["configuration"]["level"]) == (0, "warning") and "reload" in found["configuration"]["next"]
    clustered.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while '"reload.done"' not in (clustered.folder / "log").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "configuration" not in examined(clustered)[1]
