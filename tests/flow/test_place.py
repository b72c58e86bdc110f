"""Where the data is: what a URL means, and that no password and no unchecked way over the network gets through."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.store.place import is_local, place_of


def place(url, **more):
    return place_of(url, base=Path("/base"), default=Path("/base/data/vaguemestre.db"), **more)


def test_a_file_beside_the_configuration_or_the_one_in_the_data_folder():
    assert place("").path == Path("/base/data/vaguemestre.db")
    assert place("sqlite:///x/y.db").path == Path("/base/x/y.db")
    assert not place("").shared


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x",
        "postgresql://u@localhost/x",
        "postgresql://u@127.0.0.1:5432/x",
        "postgresql://u@[::1]:5432/x",
        "postgresql://u@/x?host=/var/run/postgresql",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/x",
    ],
)
def test_bytes_that_stay_on_this_machine_need_no_tls(url, monkeypatch):
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGHOSTADDR", raising=False)
    assert "sslmode" not in place(url).conninfo and place(url).shared


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@db.hospital/x",
        "postgresql://u@localhost:5432,db2/x",
        "postgresql://u@localhost/x?hostaddr=10.0.0.9",
        "postgresql://u@/x?host=/run,db2",
        "postgresql://u@10.0.0.9/x",
    ],
)
def test_every_other_way_checks_the_server(url):
    assert "sslmode=verify-full" in place(url).conninfo
    joined = url + ("&" if "?" in url else "?")
    assert "sslmode=verify-ca" in place(joined + "sslmode=verify-ca").conninfo
    for weak in ("disable", "allow", "prefer", "require"):
        with pytest.raises(ValueError, match="does not check the server"):
            place(joined + f"sslmode={weak}")


def test_a_host_of_the_environment_counts(monkeypatch):
    monkeypatch.setenv("PGHOST", "db.hospital")
    assert "sslmode=verify-full" in place("postgresql:///x").conninfo


@pytest.mark.parametrize("url", ["postgresql://u:secret@db/x", "postgresql://u@db/x?password=secret"])
def test_a_password_in_the_url_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="password_file") as refused:
        place(url)
    assert "secret" not in str(refused.value)


def test_a_password_of_a_file_is_in_the_connection_and_in_nothing_that_is_shown():
    found = place("postgresql://u@localhost/x", password="s&cr=t")
    assert "password=s%26cr%3Dt" in found.conninfo
    assert "s&cr" not in found.name + repr(found) and "cr%3Dt" not in repr(found)


@pytest.mark.parametrize("url", ["mysql://x", "postgres", "sqlite://x", "file.db"])
def test_another_engine_is_refused(url):
    with pytest.raises(ValueError, match="must begin with"):
        place(url)


def test_what_is_local():
    assert all(map(is_local, ("", "/run", "localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_local, ("db", "10.0.0.1", "localhost.example", "::2", "0.0.0.0")))
