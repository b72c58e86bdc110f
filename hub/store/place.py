"""Where the data is: a SQLite file, or a PostgreSQL database. The only place that knows which engine a URL means."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from hub.store.blobs import Blobs
from hub.store.group import CommitTimes
from hub.store.port import Store, Transaction

T = TypeVar("T")

SQLITE, POSTGRES = "sqlite:///", ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True)
class Place:
    """`name` is what people are shown. `path` is the SQLite file; `conninfo` is libpq's, with its secret."""

    name: str
    path: Path | None = None
    conninfo: str = field(default="", repr=False)

    @property
    def shared(self) -> bool:
        """Whether several processes, on several machines, may write to it."""
        return self.path is None


class OpenStore(Store, Protocol):
    """A store with its life: started on the event loop, closed at the end."""

    @property
    def times(self) -> CommitTimes: ...

    def start(self) -> None: ...
    async def close(self) -> None: ...


class CommandStore(Protocol):
    """Short transactions of one command, beside running hubs or without any. Raises (write): StoreUnavailable."""

    def write(self, job: Callable[[Transaction], T]) -> T: ...
    def read(self, job: Callable[[Transaction], T]) -> T: ...
    def next_id(self) -> int: ...
    def now_us(self) -> int: ...
    def close(self) -> None: ...


def place_of(url: str, *, base: Path, default: Path, password: str = "") -> Place:
    """The place that `[store] url` names; relative paths are relative to `base`.

    Raises:
        ValueError: no such engine, a password in the URL, or a way over the network that is not encrypted.
    """
    if not url:
        return Place(str(default), default)
    if url.startswith(SQLITE):
        path = base / url.removeprefix(SQLITE)
        return Place(str(path), path)
    if not url.startswith(POSTGRES):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    parts = urlsplit(url)
    if parts.password is not None or "password" in dict(parse_qsl(parts.query)):
        raise ValueError("holds a password: put it in a file and name that as password_file, or set PGPASSWORD")
    options = dict(parse_qsl(parts.query))
    if not all(map(is_local, _hosts(parts.netloc, options))):
        options.setdefault("sslmode", "verify-full")
        if options["sslmode"] not in ("verify-ca", "verify-full"):
            raise ValueError(f"sslmode={options['sslmode']} does not check the server: use verify-full with sslrootcert")
    user = f"{parts.username}@" if parts.username else ""
    where = f"{user}{parts.netloc.rpartition('@')[2]}{parts.path}"
    secret = f"&password={quote(password)}" if password else ""
    query = urlencode(options) + secret
    return Place(f"postgresql://{where}", conninfo=f"postgresql://{where}" + (f"?{query.lstrip('&')}" if query else ""))


def _hosts(netloc: str, options: dict[str, str]) -> list[str]:
    """Every host that libpq may connect to: `user@one:5432,two` and the options `host` and `hostaddr`, which are lists too."""
    named = [one.rsplit(":", 1)[0] if not one.endswith("]") else one for one in netloc.rpartition("@")[2].split(",")]
    named += [one for key in ("host", "hostaddr") for one in options.get(key, "").split(",")]
    return [unquote(one) for one in named if one] or [os.environ.get("PGHOST", ""), os.environ.get("PGHOSTADDR", "")]


def is_local(host: str) -> bool:
    """Whether bytes stay on this machine: a socket, or the loopback."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def open_store(place: Place, blobs: Blobs, *, on_broken: Callable[[], None] | None = None) -> OpenStore:
    """The store of a running hub.

    Raises:
        StoreUnavailable.
    """
    if place.path is not None:
        from hub.store.sqlite import SqliteStore

        return SqliteStore(place.path, blobs, on_broken=on_broken)
    from hub.store.postgres import PostgresStore

    return PostgresStore(place.conninfo, blobs)


def open_for_command(place: Place, blobs: Blobs, *, read_only: bool = False) -> CommandStore:
    """The store for one command.

    Raises:
        StoreUnavailable.
    """
    if place.path is not None:
        from hub.store.sqlite import ShortStore

        return ShortStore(place.path, blobs, read_only=read_only)
    from hub.store.postgres_short import PostgresShortStore

    return PostgresShortStore(place.conninfo, blobs, read_only=read_only)
