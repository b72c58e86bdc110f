"""Doctor: folders that messages come from and go to, and SFTP servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hub.app.check_files import file_mistakes
from hub.app.config import Installation, absolute
from hub.app.doctor_running import Running
from hub.app.file_transports import folder_options, owner_here, sftp_login
from hub.app.ways import FolderDestinationSection, FolderSourceSection, SftpDestinationSection, SftpSourceSection
from hub.model.refusals import HubError
from hub.store.verdicts import OK, WARNING, WRONG, Verdict

MIN_FREE_BYTES = 1 << 30
CONNECT_S = 3.0
MANY_CLAIMED = 10_000


def transports(installation: Installation, running: Running | None) -> Iterator[Verdict]:
    """Every folder is there, ours, and has room; every SFTP server answers with the key that is pinned and has the folder."""
    configuration = installation.configuration
    wrong = {mistake.key: mistake for mistake in file_mistakes(installation)}
    for key, mistake in wrong.items():
        yield Verdict(
            key.partition(".")[0].replace("[", " ").rstrip("]"),
            WRONG,
            mistake.sentence,
            "mend the configuration, or mount the folder",
        )
    broken = {key.partition(".")[0] for key in wrong}
    servers: list[tuple[str, SftpSourceSection | SftpDestinationSection]] = []
    for where, section in [
        *(("source", one) for one in configuration.source),
        *(("destination", one) for one in configuration.destination),
    ]:
        if f"{where}[{section.name}]" in broken:
            continue
        name = f"{where} {section.name}"
        if isinstance(section, FolderSourceSection):
            yield _room(name, absolute(installation, section.path))
            yield from _left_behind(name, section, installation)
        elif isinstance(section, FolderDestinationSection):
            yield _room(name, absolute(installation, section.path))
        elif isinstance(section, SftpSourceSection | SftpDestinationSection):
            servers.append((name, section))
    if servers:
        with ThreadPoolExecutor(min(8, len(servers))) as pool:
            yield from pool.map(lambda one: _server(one[0], one[1], installation), servers)


def _room(name: str, folder: Path | None) -> Verdict:
    assert folder is not None
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        return Verdict(name, WARNING, f"{folder} has {free >> 20} MB free", "make room: files that do not fit wait")
    return Verdict(name, OK, f"{folder} can be written, {free / (1 << 30):.1f} GB free")


def _left_behind(name: str, section: FolderSourceSection, installation: Installation) -> Iterator[Verdict]:
    """Files that only a person can bring further."""
    options = folder_options(section, installation, owner=owner_here(installation))
    failed = sum(1 for one in _names(options.failed) if not one.endswith(".ack"))
    if failed:
        yield Verdict(
            name,
            WARNING,
            f"{failed} files in {options.failed}: a message of theirs was refused",
            "the .ack beside each says why; what is mended may be put into the folder again",
        )
    foreign = sum(1 for one in _names(options.path / ".claimed") if not one.startswith(f"{options.owner}."))
    if foreign:
        yield Verdict(
            name,
            WARNING,
            f"{foreign} files are claimed by another hub that takes from {options.path}",
            "one folder for one hub; if the other is gone, move them out of .claimed, without what stands before ~",
        )


def _names(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        for n, one in enumerate(found):
            if n >= MANY_CLAIMED:
                return
            yield one.name


def _server(name: str, section: SftpSourceSection | SftpDestinationSection, installation: Installation) -> Verdict:
    from adapters.sftp.outbox import SftpOutbox
    from adapters.sftp.session import HOST_KEY_CHANGED

    login = sftp_login(section, installation)
    outbox = SftpOutbox(
        replace(login, connect_timeout_s=min(CONNECT_S, login.connect_timeout_s), answer_timeout_s=CONNECT_S), section.path
    )
    try:
        outbox.probe()
    except HubError as error:
        changed = HOST_KEY_CHANGED in error.sentence
        return Verdict(
            name,
            WRONG if changed else WARNING,
            f"{section.place}: {error.sentence}",
            f"ssh-keyscan -p {login.port} {login.host} shows the key"
            if changed
            else "nothing is lost meanwhile; ask who runs the server",
        )
    finally:
        outbox.close()
    return Verdict(name, OK, f"{section.place} answers, with the key that is pinned")
