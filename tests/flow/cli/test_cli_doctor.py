"""`vaguemestre doctor`, on installations with one thing wrong each; and the reader of certificate dates."""

from __future__ import annotations

import base64
import json
import os
import socket
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hub.app.certificate_dates import MAX_BYTES, NotACertificate, validities

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)


def certificate(not_before: datetime, not_after: datetime) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub.test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def examined(installed) -> tuple[int, dict[str, dict]]:
    done = installed.cli("doctor", "--json")
    document = json.loads(done.stdout)
    assert document["ok"] is (done.returncode == 0)
    assert all(check["next"] for check in document["checks"] if check["level"] != "ok"), document
    return done.returncode, {check["check"]: check for check in document["checks"]}


def levels(found: dict[str, dict], *, but: tuple[str, ...] = ("free disk", "open files", "disk sync")) -> dict[str, str]:
    """What is not good, without what depends on the machine that runs the tests."""
    return {name: check["level"] for name, check in found.items() if check["level"] != "ok" and name not in but}


def test_a_fresh_installation(installed):
    code, found = examined(installed)
    assert code == 0
    assert levels(found) == {"data folder": "warning", "database": "warning"}
    assert not installed.data.exists()


def test_a_running_and_a_stopped_hub(installed):
    installed.start()
    code, found = examined(installed)
    assert (code, levels(found)) == (0, {}), found
    assert found["source his"]["says"] == f"127.0.0.1:{installed.mllp} is answered"
    assert found["readiness"]["says"] == "the hub takes messages"
    text = installed.cli("doctor")
    assert text.returncode == 0
    assert text.stdout.startswith(f"{installed.file}: hub running, process {installed.process.pid}\n✓ Python: ")
    installed.stop()
    code, found = examined(installed)
    assert (code, levels(found)) == (0, {}), found
    assert found["source his"]["says"] == f"127.0.0.1:{installed.mllp} is free"
    assert "readiness" not in found
    left = {path.name for path in installed.data.iterdir() if path.suffix not in (".db-wal", ".db-shm")}
    assert left == {"blobs", "lock", "vaguemestre.db"}


def test_a_port_that_somebody_else_holds(installed):
    with socket.socket() as other:
        other.bind(("127.0.0.1", installed.mllp))
        other.listen()
        code, found = examined(installed)
    assert code == 1
    assert found["source his"]["says"] == f"127.0.0.1:{installed.mllp} is held by another program"
    assert found["source his"]["level"] == "wrong"
    assert f":{installed.mllp}" in found["source his"]["next"]
    done = installed.cli("doctor")
    assert done.returncode == 0


def test_an_address_of_another_machine(installed):
    installed.file.write_text(installed.file.read_text().replace(f"127.0.0.1:{installed.mllp}", f"192.0.2.1:{installed.mllp}"))
    code, found = examined(installed)
    assert (code, found["source his"]["says"]) == (1, f"192.0.2.1:{installed.mllp} is no address of this machine")


def test_a_data_folder_open_to_everybody(installed):
    installed.cli("db", "upgrade")
    assert levels(examined(installed)[1]) == {}
    installed.data.chmod(0o755)
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"data folder": "wrong"})
    assert found["data folder"]["next"] == f"chmod o= {installed.data}"


def test_a_schema_that_is_newer_and_one_that_is_older(installed):
    installed.cli("db", "upgrade")
    older = "stop the hub, copy the database, vaguemestre db upgrade"
    for version, step in (("9999", "install the newer version again"), ("0000", older)):
        with closing(sqlite3.connect(installed.data / "vaguemestre.db")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        code, found = examined(installed)
        assert (code, levels(found)) == (1, {"schema": "wrong"})
        assert found["schema"]["next"] == step


def test_a_damaged_database(installed):
    installed.cli("db", "upgrade")
    database = installed.data / "vaguemestre.db"
    content = bytearray(database.read_bytes())
    content[8192:40960] = b"\xa5" * 32768
    database.write_bytes(content)
    code, found = examined(installed)
    assert code == 1
    assert {"integrity", "database"} & levels(found).keys(), found
    database.write_bytes(b"no database" * 1000)
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"database": "wrong"})


def test_a_clock_that_was_set_back(installed):
    installed.start()
    installed.send(installed.write("a.hl7"))
    installed.settled(1)
    installed.stop()
    with closing(sqlite3.connect(installed.data / "vaguemestre.db")) as connection, connection:
        connection.execute("UPDATE message SET received_at = ?", (int((time.time() + 3600) * 1e6),))
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"clock": "wrong"})
    assert "it was set back" in found["clock"]["says"]


def test_destinations_that_are_there_and_not(installed, a_free_port):
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        blocks = [
            f'[[destination]]\nname = "{name}"\nkind = "mllp"\nconnect = "127.0.0.1:{port}"\n'
            for name, port in (("there", there.getsockname()[1]), ("gone", a_free_port()))
        ]
        installed.configure("".join(blocks))
        installed.cli("db", "upgrade")
        code, found = examined(installed)
    assert (code, levels(found)) == (0, {"destination gone": "warning"})
    assert "ECONNREFUSED" in found["destination gone"]["says"]


def test_a_site_module_that_does_not_load(installed):
    (installed.folder / "site").mkdir()
    (installed.folder / "site" / "ours.py").write_text("x = (\n")
    installed.configure('[mappings]\nfolder = "site"\n')
    installed.cli("db", "upgrade")
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"mappings": "wrong"})
    assert "ours.py: line 1: cannot be imported (SyntaxError)" in found["mappings"]["says"]


def with_certificate(installed, made: tuple[bytes, bytes]) -> None:
    for name, content in zip(("hub.pem", "hub.key"), made, strict=True):
        (installed.folder / name).write_bytes(content)
    installed.configure(source='tls_cert_file = "hub.pem"\ntls_key_file = "hub.key"')
    if not installed.data.exists():
        installed.cli("db", "upgrade")


def test_certificates(installed):
    today = datetime.now(UTC).replace(microsecond=0)
    days = timedelta(days=1)
    with_certificate(installed, certificate(today - days, today + 400 * days))
    assert levels(examined(installed)[1]) == {}
    with_certificate(installed, certificate(today - days, today + 12 * days))
    code, found = examined(installed)
    assert (code, levels(found)) == (0, {"certificate hub.pem": "warning"})
    assert f"expires on {today + 12 * days:%Y-%m-%d}" in found["certificate hub.pem"]["says"]
    with_certificate(installed, certificate(today - 9 * days, today - days))
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"certificate hub.pem": "wrong"})
    with_certificate(installed, certificate(today + 5 * days, today + 60 * days))
    assert examined(installed)[1]["certificate hub.pem"]["says"] == "is not valid yet"
    other = certificate(today - days, today + 400 * days)
    (installed.folder / "hub.key").write_bytes(other[1])
    (installed.folder / "hub.pem").write_bytes(certificate(today - days, today + 400 * days)[0])
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"certificates": "wrong"})
    assert "source[his].tls_cert_file: certificate and key not usable" in found["certificates"]["says"]


def test_a_hub_that_runs_and_whose_port_does_not_answer(installed, a_free_port):
    installed.start()
    installed.file.write_text(installed.file.read_text().replace(f":{installed.mllp}", f":{a_free_port()}"))
    code, found = examined(installed)
    assert (code, levels(found)) == (1, {"source his": "wrong"})
    assert "the hub runs, and" in found["source his"]["says"]
    installed.stop()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(installed):
    installed.cli("db", "upgrade")
    installed.data.chmod(0o500)
    try:
        code, found = examined(installed)
    finally:
        installed.data.chmod(0o700)
    assert code == 1
    assert found["data folder"]["level"] == "wrong"


# ---- dates of certificates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [1, 20, 40])  # from 2050 on GeneralizedTime instead of UTCTime
def test_dates_of_a_certificate(years):
    after = NOW.replace(year=NOW.year + years)
    (found,) = validities(certificate(NOW, after)[0])
    assert (found.not_before, found.not_after) == (NOW, after)


def test_dates_of_a_chain_in_order():
    one, two = certificate(NOW, NOW + timedelta(days=1)), certificate(NOW, NOW + timedelta(days=2))
    found = validities(b"text before\n" + one[0] + b"text between\n" + two[0] + one[1])
    assert [validity.not_after for validity in found] == [NOW + timedelta(days=1), NOW + timedelta(days=2)]


def test_no_certificate_and_a_damaged_one():
    pem, key = certificate(NOW, NOW + timedelta(days=1))
    assert validities(b"") == validities(key) == []
    with pytest.raises(NotACertificate):
        validities(pem.replace(pem[40:60], b"AAAAAAAAAAAAAAAAAAAA"))
    with pytest.raises(NotACertificate):
        validities(bytes(MAX_BYTES + 1))


DER = base64.b64decode(certificate(NOW, NOW + timedelta(days=1))[0].split(b"-----")[2])


@given(
    st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, len(DER) - 1), st.binary(min_size=1, max_size=6)).map(
            lambda change: DER[: change[0]] + change[1] + DER[change[0] + len(change[1]) :]
        ),
    )
)
def test_any_bytes_are_dates_or_no_certificate(der):

    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    try:
        found = validities(pem)
    except NotACertificate:
        return
    assert all(one.not_before.tzinfo is UTC and one.not_after.tzinfo is UTC for one in found)
