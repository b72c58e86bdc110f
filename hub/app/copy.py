"""`vaguemestre db copy`: everything of one installation into the empty database of another, and compared."""

from __future__ import annotations

from contextlib import ExitStack

from hub.app.beside import opened
from hub.app.config import Installation
from hub.app.database import refuse_wrong_user
from hub.app.lock import DataFolderInUse, DataFolderLock
from hub.app.progress import Bar
from hub.app.terminal import counted, failed, print_table, remark
from hub.model.refusals import HubError
from hub.model.uids import uid_text
from hub.store.copy import Compared, compare, copy_bodies, copy_rows, open_side, refuse_unfit
from hub.store.copy_side import CopyRefused, Side
from hub.store.opening import migrated

_SHOWN = 10  # messages with a damaged body


def copy_database(source: Installation, target: Installation) -> int:
    """Copy, compare, say how many rows; 1 when it cannot be done or differs: the target then holds nothing of it."""
    try:
        with ExitStack() as stack:
            _prepare(source, target, stack)
            here = stack.enter_context(open_side(source.place, write=False))
            there = stack.enter_context(open_side(target.place, write=True))
            refuse_unfit(here, there)
            found, bodies, damaged = _copied(source, target, here, there)
            there.commit()
    except DataFolderInUse as refused:
        remark(f"{refused.sentence}. A hub that is running is not copied.")
        return 1
    except HubError as refused:
        return failed(refused)
    except OSError as error:
        remark(f"{error.filename or 'a file'} cannot be used ({error.strerror}): run as the user of the hub")
        return 1
    _tell(source, target, found, bodies)
    if damaged:
        named = ", ".join(map(uid_text, damaged[:_SHOWN])) + (", …" if len(damaged) > _SHOWN else "")
        were = "1 large body was" if len(damaged) == 1 else f"{len(damaged)} large bodies were"
        remark(f"{were} damaged before, and {'is' if len(damaged) == 1 else 'are'} not in the copy: {named}")
    return 0


def _prepare(source: Installation, target: Installation, stack: ExitStack) -> None:
    """Hold the data folders that one hub may have for itself; make the tables of the target.

    Raises:
        CopyRefused, DataFolderInUse, WrongUser, NoDatabase, SchemaTooNew, StoreUnavailable, OSError.
    """
    if source.place.name == target.place.name:
        raise CopyRefused(f"both configurations name {source.place.name}: --to needs another [store] url")
    with opened(source, read_only=True):
        pass  # it is there, and of this version
    alone = [one for one in (source, target) if not one.place.shared]
    for one in alone:
        refuse_wrong_user(one)
    for folder in {one.data_dir.resolve() for one in alone}:
        stack.callback(DataFolderLock(folder).release)
    if target.place.shared and not target.configuration.store.blobs:
        target.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # its large bodies are patients' data
    migrated(target.place)


def _copied(source: Installation, target: Installation, here: Side, there: Side) -> tuple[list[Compared], int, list[int]]:
    """Tables as they are on both sides, how many large bodies there are, and messages whose body was damaged before.

    Raises:
        CopyRefused: a table differs. StoreUnavailable, OSError.
    """
    with Bar("copying") as bar:
        copy_rows(here, there, bar.show)
        bodies, damaged = copy_bodies(here, source.blobs(), target.blobs(), bar.show)
    with Bar("comparing") as bar:
        found = compare(here, there, bar.show)
    wrong = [one.table for one in found if not one.equal]
    if wrong:
        raise CopyRefused(f"the copy differs from {here.name} in {', '.join(wrong)}: nothing was kept in {there.name}")
    return found, bodies, damaged


def _tell(source: Installation, target: Installation, found: list[Compared], bodies: int) -> None:
    print_table(
        ("TABLE", "ROWS", "COPIED"),
        [(one.table, str(one.rows), str(one.rows_copied)) for one in found] + [("large bodies", str(bodies), str(bodies))],
    )
    print(f"{source.place.name} → {target.place.name}: {counted(sum(one.rows for one in found), 'row')}, all equal.")
