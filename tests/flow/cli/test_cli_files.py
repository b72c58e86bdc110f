"""Folders and SFTP in `check` and `doctor`: what an engineer gets wrong, and what is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from bench import sftp_server
from hub.app.check_files import file_mistakes
from hub.app.config import Configuration, ConfigurationRefused, load


def folder(*more: str, kind: str = "source", name: str = "drop", path: str = "in") -> str:
    return "\n".join((f"[[{kind}]]", f'name = "{name}"', 'kind = "folder"', f'path = "{path}"', *more, ""))


def sftp(*more: str, kind: str = "source") -> str:
    return "\n".join(
        (
            f"[[{kind}]]",
            'name = "labo"',
            'kind = "sftp"',
            'host = "127.0.0.1:2222"',
            'user = "hub"',
            'path = "/out"',
            'key_file = "id_key"',
            'host_keys_file = "known_hosts"',
            *more,
            "",
        )
    )


@pytest.fixture
def ready(installed):
    """A folder, a key, and a pinned host key beside the configuration."""
    if not sftp_server.SftpServer.available():
        if os.environ.get("VAGUEMESTRE_REQUIRE_SERVICES") == "1":
            pytest.fail("openssh-server is not installed, and VAGUEMESTRE_REQUIRE_SERVICES=1", pytrace=False)
        pytest.skip("openssh-server is not installed")
    (installed.folder / "in").mkdir()
    for name in ("id_key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(installed.folder / name)], check=True)
    public = (installed.folder / "host_key.pub").read_text(encoding="ascii").split()
    (installed.folder / "known_hosts").write_text(f"[127.0.0.1]:2222 {public[0]} {public[1]}\n", encoding="ascii")
    return installed


def mistakes(installed) -> dict[str, str]:
    """What `check` tells, without a process for each."""
    try:
        found = file_mistakes(load(installed.file))
    except ConfigurationRefused as refused:
        found = refused.mistakes
    assert {one.file for one in found} == {str(installed.file)}
    return {one.key: one.reason for one in found}


def test_a_configuration_of_files_is_drawn(ready):
    ready.configure(
        folder('routes = ["record"]') + sftp('routes = ["out"]') + folder(kind="destination", name="out", path="in/x")
    )
    (ready.folder / "in" / "x").mkdir()
    done = ready.cli("check")
    assert done.returncode == 0, done.stderr
    assert "drop  FOLDER in, files of this machine" in done.stdout
    assert "labo  SFTP hub@127.0.0.1:2222:/out, SSH, the server's key is known" in done.stdout
    assert "out  FOLDER in/x, files of this machine" in done.stdout


@pytest.mark.parametrize(
    ("written", "key", "reason"),
    [
        (folder().replace('"folder"', '"ftp"'), "source[drop].kind", "is 'ftp', and the kinds are mllp, sftp, folder"),
        (folder().replace('kind = "folder"', ""), "source[drop].kind", "is missing: one of mllp, sftp, folder"),
        (folder('listen = "127.0.0.1:1"'), "source[drop].listen", "is a setting of kind mllp, not of folder"),
        (folder("batch_size = 5"), "source[drop].batch_size", "is not a setting"),
        (folder("poll_s = 0"), "source[drop].poll_s", "greater than 0"),
        (folder('pattern = "*/*.hl7"'), "source[drop].pattern", "is of file names, not of paths"),
        (folder(path="nowhere"), "source[drop].path", "names a folder that does not exist"),
        (folder(path="id_key"), "source[drop].path", "is not a folder"),
        (folder('done = "in"'), "source[drop].done", "is the folder that files are taken from"),
        (folder('answers = "in/../in"'), "source[drop].answers", "is the folder that files are taken from"),
        (folder('done = "in/old.hl7"'), "source[drop].done", "pattern matches its name"),
        (folder('failed = "nowhere/failed"'), "source[drop].failed", "names a folder that does not exist"),
        (folder() + folder(name="second", path="./in"), "source[second].path", "is the folder of source[drop] too"),
        (folder(kind="destination", name="out", path="nowhere"), "destination[out].path", "names a folder that does not exist"),
        (folder('on_unsure = "resend"', kind="destination", name="out"), "destination[out].on_unsure", "'ask' or 'hold'"),
        (sftp().replace('host_keys_file = "known_hosts"', ""), "source[labo].host_keys_file", "is missing"),
        (sftp().replace(":2222", ":2223"), "source[labo].host_keys_file", "holds no key of [127.0.0.1]:2223"),
        (sftp().replace("id_key", "nothing"), "source[labo].key_file", "names a file that does not exist"),
        (sftp().replace("id_key", "known_hosts"), "source[labo].key_file", "is not a private key that can be read"),
        (sftp('password = "MARQUETEST"'), "source[labo].password", "is a secret, and none stands in this file"),
        (sftp('password_file = "id_key"'), "source[labo]", "key_file or password_file, not both"),
        (sftp().replace('key_file = "id_key"', ""), "source[labo].key_file", "VAGUEMESTRE_SFTP_PASSWORD_LABO"),
        (sftp().replace(':2222"', '"'), "source[labo].host", "must be HOST:PORT"),
        (sftp("connections = 0", kind="destination"), "destination[labo].connections", "greater than or equal to 1"),
    ],
)
def test_each_mistake_is_told_with_its_key_and_its_reason(ready, written, key, reason):
    ready.configure(written)
    found = mistakes(ready)
    assert list(found) == [key]
    assert reason in found[key]
    assert "MARQUETEST" not in found[key]


def test_the_examples_of_the_documentation_are_configurations():
    page = (Path(__file__).parents[3] / "docs" / "transports.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    whole = Configuration.model_validate(tomllib.loads("\n".join(blocks)))
    assert [source.kind for source in whole.source] == ["folder", "sftp"]
    assert [destination.kind for destination in whole.destination] == ["sftp", "folder"]


def test_check_tells_both_kinds_of_mistakes(ready):
    ready.configure(folder(path="nowhere") + sftp().replace(":2222", ":2223"))
    done = ready.cli("check", "--json")
    assert done.returncode == 2
    assert [one["key"] for one in json.loads(done.stdout)["mistakes"]] == ["source[drop].path", "source[labo].host_keys_file"]


def test_a_folder_that_may_not_be_written(ready, monkeypatch):
    ready.configure(folder())
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (mistake,) = file_mistakes(load(ready.file))
    assert (mistake.key, mistake.reason) == ("source[drop].path", "cannot be read and written by this user")


def verdicts(installed, name: str) -> list[tuple[str, str]]:
    done = installed.cli("doctor", "--json")
    return [(one["level"], one["says"]) for one in json.loads(done.stdout)["checks"] if one["check"] == name]


def test_doctor_looks_at_folders(ready):
    ready.configure(folder())
    assert [level for level, _ in verdicts(ready, "source drop")] == ["ok"]
    for where in ("failed", ".claimed"):
        (ready.folder / "in" / where).mkdir()
        (ready.folder / "in" / where / "you.1~a.hl7").touch()
    told = verdicts(ready, "source drop")
    assert [level for level, _ in told] == ["ok", "warning", "warning"]
    assert "1 files in" in told[1][1] and "claimed by another hub" in told[2][1]
    assert not (ready.folder / "data" / "files-owner").exists()  # looking changes nothing


def test_doctor_connects_to_sftp_servers(ready, tmp_path):
    there = tmp_path / "ssh"
    there.mkdir()
    with sftp_server.SftpServer(there) as server:
        written = sftp(kind="destination").replace("2222", str(server.port)).replace('"/out"', f'"{server.path}"')
        written = written.replace('"hub"', f'"{server.user}"').replace("id_key", str(server.key))
        ready.configure(written.replace("known_hosts", str(server.known)))
        assert [level for level, _ in verdicts(ready, "destination labo")] == ["ok"]
        server.stop()
        assert [level for level, _ in verdicts(ready, "destination labo")] == ["warning"]
        server.new_host_key()
        server.start()
        ((level, says),) = verdicts(ready, "destination labo")
        assert level == "wrong" and "another host key" in says
