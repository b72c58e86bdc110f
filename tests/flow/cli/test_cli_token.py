"""`vaguemestre token` and `vaguemestre db upgrade`."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from hub.store.upgrade import HEAD


def status(installed, token: str) -> int:
    url = f"http://127.0.0.1:{installed.web}/api/v1/messages"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_token_works_at_once_and_no_longer_when_revoked(either):
    either.start()
    done = either.cli("token", "create", "--name", "monitoring", "--role", "operator")
    assert done.returncode == 0, done.stderr
    token = done.stdout.split()[-1]
    assert token.startswith("vgm_")
    assert status(either, token) == 200
    listed = either.cli("token", "list")
    assert "monitoring" in listed.stdout
    assert token not in listed.stdout
    done = either.cli("token", "revoke", "monitoring")
    assert (done.returncode, done.stdout) == (0, "Revoked 1 token named monitoring.\n")
    assert status(either, token) == 401
    assert either.cli("token", "revoke", "monitoring").returncode == 1
    either.stop()
    assert [(row[0], row[1]) for row in either.sql("SELECT act, target FROM audit ORDER BY id")] == [
        ("token.create", "token/monitoring"),
        ("token.revoke", "token/monitoring"),
    ]
    assert token not in repr(either.contents())


def test_before_the_first_start(either):
    done = either.cli(
        "token", "create", "--name", "dr", "--role", "professional", "--rpps", "10001234567", "--finess", "300017985"
    )
    assert done.returncode == 0, done.stderr
    (item,) = either.json("token", "list")["items"]
    assert {key: item[key] for key in ("name", "role", "rpps", "finess", "masked", "revoked_at")} == {
        "name": "dr",
        "role": "professional",
        "rpps": "10001234567",
        "finess": "300017985",
        "masked": False,
        "revoked_at": None,
    }
    assert either.url or either.data.stat().st_mode & 0o077 == 0
    either.start()
    either.stop()


def test_a_masked_operator(either):
    assert either.cli("token", "create", "--name", "night", "--role", "operator", "--masked").returncode == 0
    assert either.json("token", "list")["items"][0]["masked"] is True


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--name", "x", "--role", "boss"), "--role: 'boss' is none of operator, professional, pharmacist or system\n"),
        (("--name", " ", "--role", "operator"), "--name: a printable name"),
        (("--name", "a\nb", "--role", "operator"), "--name: a printable name"),
        (("--name", "x", "--role", "professional", "--rpps", "123"), "--rpps: must be 11 digits\n"),
        (("--name", "x", "--role", "professional", "--finess", "30001798X"), "--finess: must be 9 characters"),
        (("--name", "x", "--role", "system", "--masked"), "--masked is for the role operator\n"),
    ],
)
def test_wrong_use_makes_nothing(installed, arguments, says):
    done = installed.cli("token", "create", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert not installed.data.exists()


def test_a_data_folder_that_cannot_be_made(installed):
    installed.data.write_text("a file where the folder should be")
    done = installed.cli("token", "create", "--name", "x", "--role", "operator")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_db_upgrade(either):
    done = either.cli("db", "upgrade")
    assert (done.returncode, done.stdout) == (0, f"{either.name}: schema none → {HEAD}\n")
    done = either.cli("db", "upgrade")
    assert (done.returncode, done.stdout) == (0, f"{either.name}: schema {HEAD}, nothing to do\n")


def test_a_newer_database_is_left_alone(either):
    either.cli("db", "upgrade")
    either.sql("UPDATE alembic_version SET version_num = '9999'")
    done = either.cli("db", "upgrade")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the database has schema 9999, this version knows {HEAD}" in done.stderr
    for command in (("messages", "list"), ("token", "list"), ("token", "create", "--name", "x", "--role", "operator")):
        done = either.cli(*command)
        assert done.returncode == 2
        assert "schema 9999" in done.stderr


def test_an_older_database_asks_for_the_upgrade(installed):
    installed.data.mkdir()
    installed.sql("CREATE TABLE something (a)")
    done = installed.cli("messages", "list")
    assert done.returncode == 1
    assert "run vaguemestre db upgrade" in done.stderr


def test_not_under_the_feet_of_a_running_hub(installed):
    installed.start()
    installed.sql("UPDATE alembic_version SET version_num = '0000'")
    done = installed.cli("db", "upgrade")
    assert done.returncode == 1
    assert "another vaguemestre runs on" in done.stderr
    installed.stop()


def test_a_file_that_is_no_database(installed):
    installed.data.mkdir()
    (installed.data / "vaguemestre.db").write_text("not a database" * 100)
    done = installed.cli("db", "upgrade")
    assert done.returncode == 1
    assert "is not a database" in done.stderr
    assert done.stderr.count("\n") == 1
