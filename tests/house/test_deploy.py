"""What is handed out for an installation of several processes holds: configuration, units, containers, the page for operators."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
import tomllib
from functools import cache
from pathlib import Path
from typing import get_args

import psycopg
import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from typer.main import get_command

from bench.running import free_ports
from bench.services import NatsServer, PostgresServer
from hub.app.cli import app
from hub.app.config import Configuration, load
from hub.app.gauges import render
from hub.app.run import wrong_role
from hub.flow.meters import Meters
from hub.store.group import CommitTimes
from hub.store.place import place_of

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
UNITS = sorted(DEPLOY.glob("vaguemestre*.service"))
ROLES = {"vaguemestre-edge@.service": "edge", "vaguemestre-worker@.service": "worker", "vaguemestre-web.service": "web"}
SECRETS = "/run/secrets/"


# ---- what a command line may say -----------------------------------------------------------------------------------


def wrong_words(words: list[str]) -> list[str]:
    """What `vaguemestre WORDS` names and the command line does not have. Other words are arguments."""
    here, words = get_command(app), list(words)
    while hasattr(here, "commands"):
        name = words.pop(0) if words else ""
        if name not in here.commands:
            return [name or "no command"]
        here = here.commands[name]
    known = {option for parameter in here.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]


def test_words_that_no_command_has_are_found():
    assert wrong_words(["run", "--role", "edge", "--status", "127.0.0.1:9201", "-c", "x"]) == []
    assert wrong_words(["run", "--roles", "edge"]) == ["--roles"]
    assert wrong_words(["db", "move", "--from", "a"]) == ["move"]
    assert wrong_words(["token"]) == ["no command"]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words else ""


# ---- the configuration ---------------------------------------------------------------------------------------------


def checked(file: Path) -> str:
    """What `vaguemestre check` prints of a file that it takes."""
    command = [sys.executable, "-m", "hub.app.cli", "check", "--config", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_cluster_configuration_passes_the_check(tmp_path):
    shutil.copy(ROOT / "config" / "cluster.toml", tmp_path)
    said = checked(tmp_path / "cluster.toml")
    assert "1 source and the API, 1 destination" in said
    assert "\n!" not in said, "it warns of something"
    installation = load(tmp_path / "cluster.toml")
    assert installation.place.shared and installation.configuration.bell.url
    assert wrong_role(installation, "worker", "127.0.0.1:9301") == ""


def keys_of(section: str) -> set[str]:
    """Of every kind, where a section has kinds."""
    waiting, found = [Configuration.model_fields[section].annotation], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, type) and issubclass(one, BaseModel):
            found |= one.model_fields.keys()
        waiting += get_args(one)
    return found


@pytest.mark.parametrize("file", ["config/cluster.toml", "deploy/compose.toml"])
def test_what_a_configuration_offers_in_comments_exists(file):
    section, offered = "", 0
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        found = re.match(r"(?:# )?\[+([a-z]+)\]+", line)
        section = found[1] if found else section
        setting = re.match(r"# (\w+) = (.+)", line)
        if setting:
            offered += 1
            assert setting[1] in keys_of(section), line
            tomllib.loads(line.removeprefix("# "))
    assert offered > 4


def test_the_wheel_carries_the_configurations():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "config" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert (ROOT / "config" / "cluster.toml").exists() and (ROOT / "config" / "embedded.toml").exists()


# ---- systemd -------------------------------------------------------------------------------------------------------


def settings_of(unit: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#"))


def test_there_is_a_unit_for_each_role():
    assert set(ROLES) <= {unit.name for unit in UNITS}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_says_only_what_the_command_line_has(unit):
    for line in unit.read_text().splitlines():
        if line == "ExecReload=/bin/kill -HUP $MAINPID":
            continue
        if line.startswith("Exec"):
            program, *words = shlex.split(line.partition("=")[2])
            assert program.endswith("/vaguemestre") and wrong_words(words) == [], line


@pytest.mark.parametrize("name", ROLES)
def test_a_unit_of_a_role(name, tmp_path):
    settings = settings_of(DEPLOY / name)
    words = shlex.split(settings["ExecStart"].replace("%i", "1"))[1:]
    shutil.copy(ROOT / "config" / "cluster.toml", tmp_path)
    installation = load(tmp_path / "cluster.toml")
    assert option(words, "--role") == ROLES[name]
    assert wrong_role(installation, option(words, "--role"), option(words, "--status")) == ""
    assert bool(option(words, "--status")) == (ROLES[name] != "web")
    assert settings["Restart"] == "always" and settings["StartLimitIntervalSec"] == "0"
    assert int(settings["TimeoutStopSec"]) > installation.configuration.hub.drain_s + 10
    hardened = settings_of(DEPLOY / "vaguemestre.service")
    same = [key for key in hardened if key.startswith(("Protect", "Private", "Restrict", "NoNew", "Lock", "UMask", "Capab"))]
    assert len(same) > 8
    assert {key: settings.get(key) for key in same} == {key: hardened[key] for key in same}


def test_status_ports_of_one_machine_differ():
    ports = [
        option(shlex.split(settings_of(DEPLOY / name)["ExecStart"].replace("%i", str(number))), "--status")
        for name in ROLES
        if "@" in name
        for number in range(1, 10)
    ]
    assert len(set(ports)) == len(ports) == 18


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path):
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name.replace("@.", "@1.")
        copy.write_text(unit.read_text().replace("/opt/vaguemestre/venv/bin/vaguemestre", "/bin/true"))
        copies.append(str(copy))
    done = subprocess.run(["systemd-analyze", "verify", *copies], capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "vaguemestre" in line]
    assert ours == [], ours


# ---- containers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def hubs(compose: dict) -> dict[str, dict]:
    return {name: service for name, service in compose["services"].items() if service["image"].startswith("vaguemestre")}


def test_the_containers_of_the_hub(compose):
    roles = []
    for service in hubs(compose).values():
        words = service["command"]
        assert wrong_words(words) == []
        assert wrong_role(load(ROOT / "config" / "cluster.toml"), option(words, "--role"), option(words, "--status")) == ""
        roles += [option(words, "--role")] * service.get("deploy", {}).get("replicas", 1)
        assert service["stop_grace_period"] == "25s" and "8080/readyz" in str(service["healthcheck"]["test"])
        assert option(words, "--status") in ("0.0.0.0:8080", "")
    assert sorted(roles) == ["edge", "edge", "web", "worker", "worker"]


def test_every_name_that_a_container_uses_is_there(compose):
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= compose["secrets"].keys()
        assert {config["source"] for config in service.get("configs", [])} <= compose["configs"].keys()
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert volumes <= compose["volumes"].keys()
        assert set(service.get("depends_on", [])) <= compose["services"].keys()
        mounted = {SECRETS + name for name in service.get("secrets", [])}
        said = str(service.get("command", "")) + str(service.get("environment", "")) + str(service.get("healthcheck", ""))
        assert set(re.findall(rf"{SECRETS}[\w.-]+", said)) <= mounted
    for config in compose["configs"].values():
        assert (DEPLOY / config["file"]).is_file()
    published = [port.rpartition(":")[0] for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(set(published)) == len(published) == 3 and all(port.startswith("127.0.0.1:") for port in published)


def test_the_files_that_containers_name_are_mounted(compose):
    services = compose["services"]
    for file, who in [("compose.toml", "web"), ("nats.conf", "nats")]:
        named = set(re.findall(rf'"{SECRETS}([\w.-]+)"|={SECRETS}([\w.-]+)', (DEPLOY / file).read_text()))
        assert len(named) >= 3
        assert {one or other for one, other in named} <= set(services[who]["secrets"]), file


def test_the_image_has_what_compose_expects():
    text = (DEPLOY / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for one in source.split():
            assert (ROOT / one).exists(), one
    uid = re.search(r"--uid (\d+)", text)
    assert uid is not None and f"HUB_UID={uid[1]} " in (DEPLOY / "certificates.sh").read_text()
    blobs = load_compose_toml()["store"]["blobs"]
    assert blobs in text and f"blobs:{blobs}" in (DEPLOY / "compose.yaml").read_text()
    assert re.search(r"^USER vaguemestre$", text, re.MULTILINE)


def load_compose_toml() -> dict:
    return tomllib.loads((DEPLOY / "compose.toml").read_text(encoding="utf-8"))


def _has_compose() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _has_compose(), reason="docker compose is not installed")
def test_docker_compose_reads_the_file():
    done = subprocess.run(
        ["docker", "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


# ---- certificates: made as the page says, used as compose does ---------------------------------------------------------


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """The folder that certificates.sh makes."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("secrets")
    script = ["sh", str(DEPLOY / "certificates.sh"), str(folder)]
    for _ in range(2):  # again: what is there stays
        done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    return folder


def test_the_secrets_are_those_that_compose_mounts(secrets, compose):
    made = {path.name for path in secrets.iterdir()}
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} <= made
    assert [path.name for path in secrets.iterdir() if path.suffix == ".key" and path.stat().st_mode & 0o077] == []
    if os.geteuid() == 0:
        uids = re.findall(r"_UID=(\d+)", (DEPLOY / "certificates.sh").read_text())
        assert {secrets.joinpath(name).stat().st_uid for name in ("postgres.key", "hub.key")} == {int(uid) for uid in uids}


def test_the_configuration_of_the_containers_passes_the_check(secrets, tmp_path):
    file = tmp_path / "hub.toml"
    file.write_text((DEPLOY / "compose.toml").read_text().replace(SECRETS, f"{secrets}/"))
    assert "TLS" in checked(file)
    assert "sslmode=verify-full" in load(file).place.conninfo


def test_postgres_proves_who_it_is_with_these_certificates(secrets):
    needs("PostgreSQL", PostgresServer.available())
    server = PostgresServer(settings={"ssl": "on", "ssl_cert_file": "../postgres.pem", "ssl_key_file": "../postgres.key"})
    for name in ("postgres.pem", "postgres.key"):
        shutil.copy(secrets / name, server.folder)
    (server.folder / "postgres.key").chmod(0o600)
    if os.geteuid() == 0:
        shutil.chown(server.folder / "postgres.key", "postgres", "postgres")
    with server:
        # the host name of compose.toml, at the address of this test
        url = load_compose_toml()["store"]["url"].replace(SECRETS, f"{secrets}/").replace("vaguemestre@", "postgres@")
        url = url.replace("/vaguemestre?", f":{server.port}/postgres?hostaddr=127.0.0.1&")
        with psycopg.connect(place_of(url, base=ROOT, default=ROOT).conninfo) as connection:
            assert connection.pgconn.ssl_in_use
        with pytest.raises(psycopg.OperationalError, match="certificate"):
            psycopg.connect(place_of(url.replace("@postgres", "@elsewhere"), base=ROOT, default=ROOT).conninfo)


def test_nats_takes_the_hub_and_nobody_without_a_certificate(secrets):
    needs("nats-server", NatsServer.available())
    text = (DEPLOY / "nats.conf").read_text().replace(SECRETS, f"{secrets}/")
    text = re.sub(r"^(port|http):.*$", "", text, flags=re.MULTILINE)
    with NatsServer(config=re.sub(r"store_dir:.*", "", text)) as server:
        context = ssl.create_default_context(cafile=str(secrets / "ca.pem"))
        assert "PONG" not in asked(server.port, context)
        context.load_cert_chain(secrets / "hub.pem", secrets / "hub.key")
        assert "PONG" in asked(server.port, context)


def asked(port: int, context: ssl.SSLContext) -> str:
    """What the server says to a client that calls it `nats`, as the containers do."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        assert plain.makefile("rb", buffering=0).readline().startswith(b"INFO")
        try:
            with context.wrap_socket(plain, server_hostname="nats") as secure:
                secure.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
                return secure.recv(4096).decode()
        except (ssl.SSLError, ConnectionError):
            return ""


def test_the_health_check_of_the_containers_tells_who_is_ready(compose, secrets, postgres_url, tmp_path):
    web, mllp = free_ports(2)
    (tmp_path / "state" / "blobs").mkdir(parents=True)
    text = (DEPLOY / "compose.toml").read_text().replace(SECRETS, f"{secrets}/").replace("2575", str(mllp))
    text = text.replace("8080", str(web)).replace("/var/lib/vaguemestre", str(tmp_path / "state"))
    (tmp_path / "hub.toml").write_text(re.sub(r'^url = "postgresql:.*$', f'url = "{postgres_url}"', text, flags=re.MULTILINE))
    program, *words = compose["services"]["web"]["healthcheck"]["test"][1:]
    assert program == "python"
    health = [sys.executable, *(word.replace(SECRETS, f"{secrets}/").replace("8080", str(web)) for word in words)]
    assert subprocess.run(health, capture_output=True, check=False, timeout=60).returncode != 0
    command = [sys.executable, "-m", "hub.app.cli", *compose["services"]["web"]["command"], "-c", str(tmp_path / "hub.toml")]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log) as process:
        try:
            while b"hub.ready" not in (tmp_path / "log").read_bytes():
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.05)
            done = subprocess.run(health, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr
        finally:
            process.terminate()
    assert process.returncode == 0
    written = {path.name for path in (*tmp_path.iterdir(), *(tmp_path / "state").iterdir())} - {"hub.toml", "log", "state"}
    assert written == {"blobs"}, "containers are read-only but for the volume of large bodies"


def needs(name: str, found: bool) -> None:
    if not found and os.environ.get("VAGUEMESTRE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is not installed, and VAGUEMESTRE_REQUIRE_SERVICES=1", pytrace=False)
    if not found:
        pytest.skip(f"{name} is not installed")


# ---- the page for operators ------------------------------------------------------------------------------------------


def code_of(page: str) -> str:
    """Everything that a page sets as code."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    page = re.sub(r"^ *```.*?^ *```", "", page, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", page)])


@cache
def events() -> frozenset[str]:
    """Every event that some line of the code logs."""
    found = set()
    for path in [*(ROOT / "hub").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "event"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return frozenset(found)


def metrics() -> dict[str, set[str]]:
    """Names of the figures of /metrics as Prometheus sees them, and the labels of each."""
    meters = Meters()
    found = {}
    for collector in (one for one in vars(meters).values() if isinstance(one, MetricWrapperBase)):
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = set(collector._labelnames)
    counts = {
        "messages": {"RECEIVED": 1},
        "deliveries": [{"destination": "x", "state": "QUEUED", "count": 1}],
        "lanes": [{"destination": "x", "count": 1, "oldest_at": "2026-11-24T08:00:00+00:00"}],
        "members": {"edge": 1},
    }
    for family in text_string_to_metric_families(render(counts, CommitTimes()).decode()):
        for sample in family.samples:
            found[sample.name] = set(sample.labels)
    return found


def commands_in(text: str) -> list[list[str]]:
    """The words after `vaguemestre` wherever a line has them; not where it is the name of a user or a database."""
    rests = re.findall(r"\bvaguemestre +(?!vaguemestre\b)(?=[a-z])([^\n]*?)(?: {5,}|$)", text, re.MULTILINE)
    return [shlex.split(rest, comments=True) for rest in rests]


@pytest.mark.parametrize("name", ["docs/operations.md", "deploy/README.md", "config/cluster.toml"])
def test_a_page_names_only_commands_that_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    said = commands_in(code_of(text) if name.endswith(".md") else "\n".join(re.findall(r"^#   .*", text, re.MULTILINE)))
    assert len(said) > 1
    assert [words for words in said if wrong_words(words)] == []


def test_every_option_that_the_page_names_exists():
    ours = re.findall(r"`(--[a-z-]+)`", PAGE)
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    known = {option for parameter in run.params for option in parameter.opts}
    theirs = {"--delete"}  # of rsync
    assert "--status" in ours
    assert set(ours) - known - theirs == set()


def test_the_page_names_only_metrics_and_labels_that_exist():
    known = metrics()
    said = re.findall(r"\b(vaguemestre_[a-z_]+)(?:\{([a-z_,]+)\})?", PAGE)
    assert len(said) > 10
    assert [name for name, _ in said if name not in known] == []
    assert [(name, labels) for name, labels in said if labels and set(labels.split(",")) != known[name]] == []


def test_the_page_names_only_events_that_are_logged():
    said = {word for word in re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE) if not word.endswith((".hospital", ".conf"))}
    assert len(said) > 14
    assert sorted(said - events()) == []


def test_the_page_names_only_settings_that_exist():
    sections = re.findall(r"`\[+([a-z]+)\]+( [a-z_]+)?`", PAGE)
    assert len(sections) > 8
    for section, key in sections:
        assert not key or key.strip() in keys_of(section), (section, key)
    documented = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    settings = set(re.findall(r"`([a-z]+_(?:s|h|days|file))\b", PAGE))
    assert len(settings) > 4
    assert [name for name in settings if f"| `{name}` |" not in documented] == []


def test_the_files_and_places_that_the_page_links_to_exist():
    for page in (ROOT / "docs" / "operations.md", DEPLOY / "README.md"):
        text = page.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
            there = (page.parent / target) if target else page
            assert there.exists(), target
            if anchor:
                heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, anchor
    for name in re.findall(r"\b(?:deploy|config)/[\w@.-]+\w", PAGE):
        assert (ROOT / name).exists(), name
