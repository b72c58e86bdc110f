"""Why a PostgreSQL server did not let us in. Its own text is not asked: it is in its language, and names what it likes."""

from __future__ import annotations

import socket
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGconn

from hub.store.place import Place
from hub.store.port import StoreUnavailable
from hub.store.postgres_connection import connect, unavailable

REACH_S = 3.0
_ASIDE = ("postgres", "template1")  # databases that nearly every server has


def why_not(place: Place) -> StoreUnavailable | None:
    """Why this database cannot be opened, None when it can; the sentence holds neither the password nor the conninfo."""
    try:
        connect(place.conninfo).close()
    except psycopg.Error as error:
        return explained(place, error)
    return None


def explained(place: Place, error: psycopg.Error) -> StoreUnavailable:
    """The sentence for an error of `connect`."""
    tried = error.pgconn
    if error.sqlstate or tried is None:
        return unavailable(error) or StoreUnavailable(f"the database {place.name} refused ({error.sqlstate or 'no state'})")
    if not _reached(tried):
        return StoreUnavailable(f"no server answers at {_address(tried)}: is it running, and is [store] url right?")
    if tried.needs_password:
        return StoreUnavailable(f"the server of {place.name} asks for a password: put it in a file, [store] password_file")
    name = tried.db.decode(errors="replace")
    there = _has_database(place, name)
    if there is False:
        return StoreUnavailable(f"the server has no database {name} ({place.name}): createdb {name}")
    user = tried.user.decode(errors="replace")
    if there:
        return StoreUnavailable(f"the server does not let {user} into the database {name} ({place.name}): its log says why")
    what = "user or password is wrong" if tried.used_password else "user, pg_hba.conf, TLS or target_session_attrs"
    return StoreUnavailable(f"the server of {place.name} does not let {user} in ({what}): its log says why")


def _address(tried: PGconn) -> str:
    host, port = tried.host.decode(errors="replace"), tried.port.decode(errors="replace")
    return f"{host}:{port}" if host else f"port {port}"


def _reached(tried: PGconn) -> bool:
    """Whether something takes connections where the server was looked for."""
    host, port = (tried.hostaddr or tried.host).decode(errors="replace"), tried.port.decode(errors="replace")
    try:
        if host.startswith("/"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(REACH_S)
                probe.connect(str(Path(host) / f".s.PGSQL.{port}"))
        else:
            socket.create_connection((host, int(port or 5432)), timeout=REACH_S).close()
    except (OSError, ValueError):
        return False
    return True


def _has_database(place: Place, name: str) -> bool | None:
    """Whether the server has the database; None when it lets this user into none that we know."""
    options = conninfo_to_dict(place.conninfo)
    for aside in _ASIDE:
        options["dbname"] = aside
        try:
            with connect(make_conninfo("", **options)) as connection:
                return connection.execute("SELECT 1 FROM pg_database WHERE datname = $1", (name,)).fetchone() is not None
        except psycopg.Error:
            continue
    return None
