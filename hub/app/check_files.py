"""Folders, keys and pinned host keys of a configuration: what only looking at this machine finds out. Nothing is connected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hub.app.config import Installation, absolute
from hub.app.file_transports import folder_options, owner_here, sftp_login
from hub.app.ways import FolderDestinationSection, FolderSourceSection, SftpDestinationSection, SftpSourceSection
from hub.model.refusals import Misconfigured


def file_mistakes(installation: Installation) -> list[Misconfigured]:
    """Folders that are not there or not ours to write, keys that do not load, servers without a pinned key."""
    configuration = installation.configuration
    ways = [("source", one) for one in configuration.source] + [("destination", one) for one in configuration.destination]
    found: list[Misconfigured] = []
    for where, section in ways:
        if isinstance(section, FolderSourceSection):
            mistakes = list(_source(section, installation))
        elif isinstance(section, FolderDestinationSection):
            mistakes = [("path", why)] if (why := _unusable(absolute(installation, section.path))) else []
        elif isinstance(section, SftpSourceSection | SftpDestinationSection):
            mistakes = list(_login(section, installation))
        else:
            continue
        found += [Misconfigured(str(installation.file), f"{where}[{section.name}].{key}", why) for key, why in mistakes]
    return found


def _source(section: FolderSourceSection, installation: Installation) -> Iterator[tuple[str, str]]:
    options = folder_options(section, installation, owner=owner_here(installation))
    if why := _unusable(options.path):
        yield "path", why
        return
    device = options.path.stat().st_dev
    for key, folder in (("done", options.done), ("failed", options.failed), ("answers", options.answers)):
        if folder is None:
            continue
        there = folder if folder.exists() else folder.parent
        if why := _unusable(there):
            yield key, why
        elif key != "answers" and there.stat().st_dev != device:
            yield key, "is on another file system than path: a file could not be moved there in one step"


def _unusable(folder: Path | None) -> str:
    if folder is None or not folder.exists():
        return "names a folder that does not exist"
    if not folder.is_dir():
        return "is not a folder"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return "cannot be read and written by this user"
    return ""


def _login(section: SftpSourceSection | SftpDestinationSection, installation: Installation) -> Iterator[tuple[str, str]]:
    from adapters.sftp.keys import checked

    try:
        checked(sftp_login(section, installation))
    except Misconfigured as refused:
        yield refused.key, refused.reason
    except (OSError, UnicodeDecodeError) as error:
        yield "password_file", f"names a file that cannot be read ({type(error).__name__})"
