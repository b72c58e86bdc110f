"""Doctor: the data folder, its disk, the database, and large bodies."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hub.app.config import Installation, absolute
from hub.app.doctor_running import Running
from hub.model.refusals import HubError
from hub.store.bucket import parse_blobs
from hub.store.examination import examined, probe
from hub.store.verdicts import OK, WARNING, WRONG, Verdict

MIN_FREE_BYTES, MIN_FREE_PART = 5 << 30, 0.10
SYNCS = 20
SLOW_SYNC_MS, NO_SYNC_MS = 20.0, 0.01


def folders(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """The data folder is there, ours to write, and nobody else's to read."""
    for name, folder in _folders(installation):
        if not folder.exists():
            above = _existing(folder)
            if os.access(above, os.W_OK):
                yield Verdict(name, WARNING, f"{folder} does not exist yet", "run or db upgrade makes it")
            else:
                yield Verdict(
                    name,
                    WARNING,
                    f"{folder} does not exist, and this user cannot make it in {above}",
                    "mkdir it, owned by the user of the hub; a systemd unit's StateDirectory does so",
                )
            continue
        if not folder.is_dir():
            yield Verdict(name, WRONG, f"{folder} is not a folder", "name another in the configuration")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield Verdict(
                name, WRONG, f"{folder} cannot be written by this user", "run as the user of the hub, or chown it to that user"
            )
        elif folder.stat().st_mode & 0o007:
            yield Verdict(name, WRONG, f"{folder} is open to every user of this machine", f"chmod o= {folder}")
        else:
            yield Verdict(name, OK, str(folder))


def _folders(installation: Installation) -> list[tuple[str, Path]]:
    """Where this process writes on this machine."""
    path = installation.place.path
    if path is None:
        return [] if installation.configuration.store.blobs else [("data folder", installation.data_dir)]
    found = [("data folder", installation.data_dir)]
    if path.parent != installation.data_dir:
        found.append(("database folder", path.parent))
    return found


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def disk(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Free space where the data is."""
    if not _folders(installation):
        return
    usage = shutil.disk_usage(_existing(installation.data_dir))
    part = usage.free / usage.total
    says = f"{usage.free / (1 << 30):.1f} GB free ({part:.0%})"
    if usage.free < MIN_FREE_BYTES or part < MIN_FREE_PART:
        yield Verdict("free disk", WARNING, says, "make room: with a full disk every message is answered AR")
    else:
        yield Verdict("free disk", OK, says)


def sync_time(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """How long this disk takes to make a write durable: every acknowledgement waits for one."""
    if installation.place.shared:
        return  # it waits for the server's disk
    if not installation.data_dir.is_dir() or not os.access(installation.data_dir, os.W_OK):
        return
    times = []
    with tempfile.TemporaryFile(dir=installation.data_dir) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    p50 = statistics.median(times)
    says = f"fdatasync takes {p50:.2f} ms (median of {SYNCS}, slowest {max(times):.2f} ms)"
    if p50 > SLOW_SYNC_MS:
        yield Verdict("disk sync", WARNING, says, "a slow disk slows every acknowledgement: use a local SSD")
    elif p50 < NO_SYNC_MS:
        yield Verdict("disk sync", WARNING, f"{says}: nothing reaches a disk that fast", "data_dir on a real disk, not in memory")
    else:
        yield Verdict("disk sync", OK, says)


def database(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """What the store says of its database."""
    return examined(installation.place)


def bodies(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Large bodies can be kept, and by every process that shares the database."""
    setting, shared = installation.configuration.store.blobs, installation.place.shared
    if not setting and not _own_folder(installation).exists():
        if shared:
            yield _not_shared(installation)
        return  # made when it is needed
    try:
        blobs = installation.blobs()
        probe(blobs)
    except (HubError, OSError) as error:
        why = error.sentence if isinstance(error, HubError) else f"takes no writes ({error.strerror})"
        yield Verdict("large bodies", WRONG, why, "mend [store] blobs: no message over 256 KB can be kept")
        return
    if shared and not setting:
        yield _not_shared(installation)
    elif shared and isinstance(parse_blobs(setting), Path):
        where = absolute(installation, Path(setting))
        yield Verdict("large bodies", OK, f"{where} takes writes; it must be the same folder on every machine (NFS)")
    else:
        yield Verdict("large bodies", OK, f"{blobs.name} takes writes")


def _not_shared(installation: Installation) -> Verdict:
    return Verdict(
        "large bodies",
        WARNING,
        f"go to {_own_folder(installation)}: processes on other machines cannot read them",
        "with more than one machine, name a folder that all share or a bucket in [store] blobs",
    )


def _own_folder(installation: Installation) -> Path:
    return installation.data_dir / "blobs"
