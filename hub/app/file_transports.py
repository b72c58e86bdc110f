"""Folders and SFTP servers of a configuration: sources, destinations, logins."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.folder.inbox import FolderInbox, FolderInboxOptions
from adapters.folder.outbox import FolderOutbox
from hub.app.config import Installation, absolute
from hub.app.mistakes import password_variable
from hub.app.ways import DELETE, FolderDestinationSection, FolderSourceSection, SftpDestinationSection, SftpSourceSection
from hub.flow.files_in import FilesIn, FileSource
from hub.flow.files_out import FileDestination
from hub.flow.meters import Meters
from hub.model.ports import Inbox, Receive

if TYPE_CHECKING:
    from adapters.sftp.options import SftpLogin

FOLDER_THREADS = 4
_OWNER_FILE = "files-owner"  # in the data folder: whose claims are ours, as long as it is the same data


def folder_source(section: FolderSourceSection, installation: Installation, receive: Receive, meters: Meters) -> FileSource:
    """A folder of this machine as a source."""
    options = folder_options(section, installation, owner=_owner(installation))
    return _source(section, FolderInbox(options), installation, receive, meters)


def folder_options(section: FolderSourceSection, installation: Installation, *, owner: str) -> FolderInboxOptions:
    """The folders of a source, made absolute."""
    path = _absolute(installation, section.path)
    return FolderInboxOptions(
        path,
        done=None if section.done == DELETE else _absolute(installation, section.done) if section.done else path / "done",
        failed=_absolute(installation, section.failed) if section.failed else path / "failed",
        answers=_absolute(installation, section.answers) if section.answers else None,
        owner=owner,
    )


def sftp_source(section: SftpSourceSection, installation: Installation, receive: Receive, meters: Meters) -> FileSource:
    """A folder of an SFTP server as a source.

    Raises:
        Misconfigured: the files of its login do not serve.
    """
    from adapters.sftp.inbox import SftpInbox, SftpInboxOptions
    from adapters.sftp.keys import checked

    login = sftp_login(section, installation)
    checked(login)
    path = _bare(section.path)
    options = SftpInboxOptions(
        path,
        done="" if section.done == DELETE else _bare(section.done) or f"{path}/done",
        failed=_bare(section.failed) or f"{path}/failed",
        answers=_bare(section.answers),
        owner=_owner(installation),
        scratch=str(installation.data_dir),
    )
    return _source(section, SftpInbox(login, options), installation, receive, meters)


def _source(
    section: FolderSourceSection | SftpSourceSection, inbox: Inbox, installation: Installation, receive: Receive, meters: Meters
) -> FileSource:
    options = FilesIn(
        section.name,
        pattern=section.pattern,
        settle_s=section.settle_s,
        answers=bool(section.answers),
        max_file_bytes=section.max_file_bytes,
        max_message_bytes=section.max_message_bytes,
    )
    return FileSource(options, inbox, receive, installation.site, meters, poll_s=section.poll_s)


def folder_destination(section: FolderDestinationSection, installation: Installation) -> FileDestination:
    """A folder of this machine as a destination."""
    return FileDestination(
        section.name,
        FolderOutbox(_absolute(installation, section.path)),
        installation.site,
        threads=FOLDER_THREADS,
        batch_size=section.batch_size,
        batch_wait_s=section.batch_wait_s,
    )


def sftp_destination(section: SftpDestinationSection, installation: Installation) -> FileDestination:
    """A folder of an SFTP server as a destination.

    Raises:
        Misconfigured: the files of its login do not serve.
    """
    from adapters.sftp.keys import checked
    from adapters.sftp.outbox import SftpOutbox

    login = sftp_login(section, installation)
    checked(login)
    return FileDestination(
        section.name,
        SftpOutbox(login, _bare(section.path), connections=section.connections),
        installation.site,
        threads=section.connections,
        batch_size=section.batch_size,
        batch_wait_s=section.batch_wait_s,
    )


def sftp_login(section: SftpSourceSection | SftpDestinationSection, installation: Installation) -> SftpLogin:
    """How to log in, with the password from its file or the environment."""
    from adapters.sftp.options import SftpLogin

    host, _, port = section.host.rpartition(":")
    password = ""
    if section.key_file is None:
        password = os.environ.get(password_variable(section.name), "")
    if section.password_file is not None:
        password = _absolute(installation, section.password_file).read_text(encoding="utf-8").strip()
    return SftpLogin(
        host.strip("[]"),
        int(port),
        section.user,
        host_keys_file=str(_absolute(installation, section.host_keys_file)),
        key_file=str(_absolute(installation, section.key_file)) if section.key_file is not None else "",
        password=password,
        connect_timeout_s=section.connect_timeout_s,
        answer_timeout_s=section.answer_timeout_s,
    )


def _owner(installation: Installation) -> str:
    """`owner_here`, made when there is none yet."""
    owner = owner_here(installation)
    if not owner:
        owner = secrets.token_hex(5)
        installation.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (installation.data_dir / _OWNER_FILE).write_text(owner, encoding="ascii")
    return owner


def owner_here(installation: Installation) -> str:
    """Letters that name this hub in what it claims, the same for all its processes and after a restart; empty before the
    first start.
    """
    if installation.place.shared:
        whole = f"{installation.configuration.store.url} {installation.configuration.cluster.name}"
        return hashlib.sha256(whole.encode()).hexdigest()[:10]
    file = installation.data_dir / _OWNER_FILE
    return file.read_text(encoding="ascii").strip() if file.is_file() else ""


def _absolute(installation: Installation, path: Path | str) -> Path:
    found = absolute(installation, Path(path))
    assert found is not None
    return found


def _bare(path: str) -> str:
    return path.rstrip("/") or path
