"""What ails a PostgreSQL database: whether it is reached, how, its settings that promises rest on, and who holds it up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import Connection

from hub.store.place import Place, is_local
from hub.store.postgres_connection import connect
from hub.store.postgres_refusal import explained
from hub.store.verdicts import OK, WARNING, WRONG, Verdict, schema_verdict

MIN_SERVER = 14
CONNECTIONS = 9  # of one process at most: writers, acknowledgements, readers, and what a restart overlaps
CLOCK_S = 2.0
LONG_TRANSACTION_S = 60
_SAFE = {  # a setting with one of the wrong values: what is lost
    "fsync": (("off",), "a power cut destroys the database"),
    "full_page_writes": (("off",), "a power cut tears pages"),
    "synchronous_commit": (("off",), "a power cut loses what was acknowledged"),
}


def examined(place: Place) -> Iterator[Verdict]:
    """Everything about the server and the database that can be asked in a few short queries."""
    try:
        connection = connect(place.conninfo, "SET statement_timeout = '5s'")
    except psycopg.Error as error:
        yield Verdict("database", WRONG, explained(place, error).sentence, "mend [store] url, its password_file, or the server")
        return
    with connection:
        yield Verdict("database", OK, f"{place.name}, {_one(connection, 'SELECT pg_database_size(current_database())') >> 20} MB")
        for look in _LOOKS:
            try:
                yield from look(connection)
            except psycopg.Error as error:
                yield Verdict("database", WARNING, f"one look was refused ({error.sqlstate})", "make the hub's user its owner")


def _one(connection: Connection[Any], sql: str) -> Any:
    row = connection.execute(sql).fetchone()
    return row[0] if row is not None else None


def _server(connection: Connection[Any]) -> Iterator[Verdict]:
    version = connection.info.server_version
    text = f"{version // 10_000}.{version % 10_000}"
    if version // 10_000 < MIN_SERVER:
        yield Verdict("PostgreSQL", WRONG, f"{text} is too old", f"move to version {MIN_SERVER} or newer")
    else:
        yield Verdict("PostgreSQL", OK, text)
    if _one(connection, "SELECT pg_is_in_recovery()"):
        yield Verdict("server", WRONG, "is a standby, which takes no writes", "name the primary in [store] url")
    encoding = _one(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        yield Verdict("encoding", WRONG, f"of the database is {encoding}", "create it again with ENCODING 'UTF8'")


def _schema(connection: Connection[Any]) -> Iterator[Verdict]:
    there = _one(connection, "SELECT to_regclass('alembic_version') IS NOT NULL")
    version = _one(connection, "SELECT version_num FROM alembic_version") if there else ""
    if version:
        yield schema_verdict(version)
    else:
        yield Verdict("schema", WARNING, "the database is empty", "run or db upgrade makes its tables")


def _durability(connection: Connection[Any]) -> Iterator[Verdict]:
    for setting, (wrong, loss) in _SAFE.items():
        value = _one(connection, f"SHOW {setting}")
        if value in wrong:
            yield Verdict(setting, WRONG, f"is {value}: {loss}", f"ALTER SYSTEM SET {setting} = on, then SELECT pg_reload_conf()")
        else:
            yield Verdict(setting, OK, value)


def _connections(connection: Connection[Any]) -> Iterator[Verdict]:
    most = int(_one(connection, "SHOW max_connections")) - int(_one(connection, "SHOW superuser_reserved_connections"))
    members = _one(connection, "SELECT count(*) FROM member") if _one(connection, "SELECT to_regclass('member')") else 0
    taken = _one(connection, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    needed = CONNECTIONS * max(1, members)
    says = f"{most} at most, {taken} taken; {max(1, members)} processes of the hub take up to {needed}"
    raise_it = "raise max_connections, which needs a restart of the server"
    if needed > most:
        yield Verdict("connections", WRONG, says, raise_it)
    elif needed + CONNECTIONS > most:
        yield Verdict("connections", WARNING, f"{says}: one more finds no place", raise_it)
    else:
        yield Verdict("connections", OK, says)


def _clock(connection: Connection[Any]) -> Iterator[Verdict]:
    before = time.time()
    server = float(_one(connection, "SELECT extract(epoch FROM clock_timestamp())::float8"))
    after = time.time()
    off = server - (before + after) / 2
    if abs(off) > CLOCK_S + (after - before) / 2:
        yield Verdict(
            "server clock",
            WARNING,
            f"is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} this machine; the ledger goes by the server",
            "keep both with NTP (timedatectl set-ntp true)",
        )
    else:
        yield Verdict("server clock", OK, f"{abs(off) * 1000:.0f} ms from this machine's")


def _way(connection: Connection[Any]) -> Iterator[Verdict]:
    """TLS of this very connection."""
    row = connection.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    if row is not None and row[0]:
        yield Verdict("connection", OK, f"encrypted, {row[1]}")
    elif is_local(connection.info.host):
        yield Verdict("connection", OK, "does not leave this machine")
    else:
        yield Verdict(
            "connection", WRONG, "leaves this machine in clear text", "sslmode=verify-full with sslrootcert in [store] url"
        )


def _long_transactions(connection: Connection[Any]) -> Iterator[Verdict]:
    rows = connection.execute(
        "SELECT pid, coalesce(nullif(application_name, ''), 'unnamed'), extract(epoch FROM now() - xact_start)::bigint "
        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND xact_start < now() - make_interval(secs => $1) ORDER BY xact_start LIMIT 5",
        (LONG_TRANSACTION_S,),
    ).fetchall()
    for pid, name, seconds in rows:
        yield Verdict(
            "long transaction",
            WARNING,
            f"{name} (process {pid} of the server) has one open for {seconds} s: dead rows pile up",
            f"end it there, or SELECT pg_terminate_backend({pid})",
        )


_LOOKS: tuple[Callable[[Connection[Any]], Iterator[Verdict]], ...] = (
    _server,
    _schema,
    _durability,
    _connections,
    _clock,
    _way,
    _long_transactions,
)
