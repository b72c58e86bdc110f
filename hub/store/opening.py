"""A database for one command: opened or migrated, and whatever is wrong with it told in a sentence of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from hub.model.refusals import HubError
from hub.store.blobs import Blobs
from hub.store.place import CommandStore, Place, open_for_command
from hub.store.port import StoreUnavailable
from hub.store.upgrade import HEAD, SchemaTooNew, upgrade, version_of

_STATES = {"42501": "this user may not make tables there: make it the owner of the database"}


class NoDatabase(HubError):
    """There is no database of this version where the configuration says."""

    code = "NoDatabase"


def is_there(place: Place) -> bool:
    """Whether something is where the database goes: a file, or tables of ours.

    Raises:
        NoDatabase: this user may not look. StoreUnavailable.
    """
    with _told(place):
        return place.path.exists() if place.path is not None else version_of(place) != ""


def schema_of(place: Place) -> str:
    """The migration that a database has; empty for a new or missing one.

    Raises:
        NoDatabase: unreadable, or no database at all. StoreUnavailable.
    """
    with _told(place):
        return version_of(place)


@contextmanager
def opened(place: Place, blobs: Blobs, *, read_only: bool = False) -> Iterator[CommandStore]:
    """The store for a command. Read-only when nothing is to be changed: then the hub's user is not needed to write.

    Raises:
        NoDatabase: missing, of an older schema, unreadable, or no database at all. SchemaTooNew. StoreUnavailable.
    """
    if not is_there(place):
        raise NoDatabase(f"there is no database at {place.name} yet: start the hub once, or run vaguemestre db upgrade")
    with _told(place):
        version = version_of(place)
        if version > HEAD:
            raise SchemaTooNew(f"the database has schema {version}, this version knows {HEAD}: use the newer version again")
        store = open_for_command(place, blobs, read_only=read_only)
        try:
            if version != HEAD:
                _look(place)
                known = version or "none"
                raise NoDatabase(f"the database has schema {known}, this version needs {HEAD}: run vaguemestre db upgrade")
            yield store
        finally:
            store.close()


def migrated(place: Place) -> tuple[str, str]:
    """Create or migrate a database; the versions before and after.

    Raises:
        NoDatabase: a file that is no database. SchemaTooNew. StoreUnavailable. OSError.
    """
    from sqlalchemy.exc import DBAPIError

    with _told(place):
        try:
            return upgrade(place)
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from None
            state = str(getattr(error.orig, "sqlstate", None) or "no state")
            raise StoreUnavailable(f"the database {place.name} cannot be migrated ({_STATES.get(state, state)})") from None


def _look(place: Place) -> None:
    """Tell a file that cannot be read from one of an older schema: the version of both is unknown."""
    if place.path is not None:
        connection = sqlite3.connect(f"file:{place.path}?mode=ro", uri=True)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        finally:
            connection.close()


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """The engine's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or type(error).__name__
        if code == "SQLITE_NOTADB":
            raise NoDatabase(f"{place.name} is not a database ({code}): restore a copy, or name another in [store] url") from None
        sentence = f"the database at {place.name} cannot be read ({code}): run as the user of the hub, or see doctor"
        raise NoDatabase(sentence) from None
    except OSError as error:
        raise NoDatabase(f"{place.name} cannot be read ({error.strerror}): run as the user of the hub") from None
    except StoreUnavailable as error:
        if place.path is not None:
            raise
        from hub.store.postgres_refusal import why_not

        raise why_not(place) or error from None
