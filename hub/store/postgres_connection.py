"""Connections to PostgreSQL: how each is set up, and what an error of the server means."""

from __future__ import annotations

import errno
import logging
from typing import Any

import psycopg
from psycopg import Connection, RawCursor
from psycopg_pool import PoolTimeout

from hub.store.clock import SharedClock, ticks_us
from hub.store.port import StatementRefused, StoreUnavailable
from hub.store.postgres_transaction import AnyInt

logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # what the server says can hold a row's values

READ_LIMIT_S = 5.0
TRIES = 8  # of a function that met another process's change
AGAIN = frozenset({"40001", "40P01", "23505", "55P03"})  # serialization, deadlock, unique, lock timeout
# what a client that was paused or cut off holds must not stop the others; a network that swallows packets must show
WRITING = (
    # a commit is on the server's disk before it is answered; a stricter setting, of a standby, stays
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')",
    "SET lock_timeout = '2s'",
    "SET idle_in_transaction_session_timeout = '3s'",
    "SET statement_timeout = '60s'",
    # all that is written is found by key: plans that hold for a table of any size, made once
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET jit = off",
)
READING = " ".join(
    f"-c {one}"
    for one in (
        "jit=off",
        "enable_seqscan=off",  # lists are read through indexes, in their order, a page at a time
        "random_page_cost=1.1",
        f"statement_timeout={int(READ_LIMIT_S * 1000)}",
        "idle_in_transaction_session_timeout=10000",
    )
)
_KEEPALIVE: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}


ALWAYS: dict[str, Any] = {"autocommit": True, "cursor_factory": RawCursor, "prepare_threshold": 0, **_KEEPALIVE}


def connect(conninfo: str, *settings: str, name: str = "vaguemestre") -> Connection[Any]:
    """A connection set up as every connection of ours is; `name` is what the server calls it.

    Raises:
        psycopg.Error: the server cannot be reached, or does not let us in.
    """
    connection = Connection.connect(conninfo, application_name=name, **ALWAYS)
    set_up(connection)
    for setting in settings:
        connection.execute(setting)
    return connection


def set_up(connection: Connection[Any]) -> None:
    """How values travel: integers untyped, few prepared statements, none forgotten."""
    connection.prepared_max = 1000
    connection.adapters.register_dumper(int, AnyInt)


def sample(connection: Connection[Any], clock: SharedClock) -> None:
    """Read the server's time a few times; the quickest answer counts."""
    for _ in range(3):
        before = ticks_us()
        row = connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
        assert row is not None
        clock.sample(before, row[0], ticks_us())


def unavailable(error: BaseException) -> StoreUnavailable | None:
    """The error as StoreUnavailable when the server or the way to it failed, None when it is the function's own."""
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, OSError):
        return StoreUnavailable(f"the data folder does not take writes ({errno.errorcode.get(error.errno or 0, 'OSError')})")
    if isinstance(error, PoolTimeout | psycopg.InterfaceError):
        return StoreUnavailable("the database cannot be reached")
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate or ""
    if isinstance(error, psycopg.OperationalError) and not state:
        return StoreUnavailable("the database cannot be reached")
    if state[:2] in {"08", "53", "57", "58", "25", "XX"}:
        return StoreUnavailable(f"the database does not take writes ({state})")
    return None


def without_values(error: Exception) -> Exception:
    """An error of the server in words of ours, since its own quote the row; any other error as it is."""
    if not isinstance(error, psycopg.Error):
        return error
    told = StatementRefused(f"{type(error).__name__} {error.sqlstate or ''}".strip())
    return told.with_traceback(error.__traceback__)
