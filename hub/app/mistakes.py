"""Mistakes of a configuration in words: which key, and why."""

from __future__ import annotations

import os
import posixpath
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hub.app.sections import API, Configuration
from hub.app.ways import DELETE, SETTINGS, FolderSourceSection, MllpSourceSection, SftpDestinationSection, SftpSourceSection
from hub.flow.graph import RECORD, REQUESTED
from hub.ledger.made import HUB

Mistake = tuple[str, str]
"""Key and reason."""

_FILES = (
    *("tls_cert_file", "tls_key_file", "tls_client_ca_file", "tls_ca_file"),
    *("password_file", "creds_file", "key_file", "host_keys_file", "token_file"),
)
_SECRETS = ("password", "passphrase", "key", "token", "secret")


def key_of(document: dict[str, Any], mistake: Any) -> str:
    """`source[his].listen` rather than `source.0.mllp.listen`."""
    words: list[str] = []
    here: Any = document
    location = list(mistake["loc"])
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        location.append("kind")
    if _section(document, location):
        del location[2:3]
    for part in location:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = {}
        if isinstance(part, int):
            name = here.get("name") or here.get("source") if isinstance(here, dict) else None
            words[-1] += f"[{name or part + 1}]"
        else:
            words.append(str(part))
    return ".".join(words) or "-"


def reason_of(document: dict[str, Any], mistake: Any) -> str:
    """Why it is one."""
    location, kind = mistake["loc"], mistake["type"]
    if kind == "extra_forbidden":
        return _unknown_setting(document, location)
    if kind in ("missing", "union_tag_not_found"):
        known = f": one of {', '.join(SETTINGS[str(location[0])])}" if kind == "union_tag_not_found" else ""
        return f"is missing{known}"
    if kind == "union_tag_invalid":
        return f"is {mistake['ctx']['tag']!r}, and the kinds are {', '.join(SETTINGS[str(location[0])])}"
    return str(mistake["msg"]).removeprefix("Value error, ")


def _section(document: dict[str, Any], location: list[Any] | tuple[Any, ...]) -> str:
    """The kind that pydantic puts third into the place of a mistake in a source or destination; empty elsewhere."""
    if len(location) > 2 and location[0] in SETTINGS and isinstance(location[1], int) and location[2] in SETTINGS[location[0]]:
        return str(location[2])
    return ""


def _unknown_setting(document: dict[str, Any], location: tuple[Any, ...]) -> str:
    name, kind = str(location[-1]), _section(document, location)
    if name in _SECRETS:
        return f"is a secret, and none stands in this file: {name}_file names a file that holds it; see docs/configuration.md"
    others = [other for other, settings in SETTINGS.get(str(location[0]), {}).items() if kind and name in settings]
    if others:
        return f"is a setting of kind {' and '.join(others)}, not of {kind}"
    return "is not a setting; see docs/configuration.md for those there are"


def name_mistakes(configuration: Configuration) -> list[Mistake]:
    """Names used twice or leading nowhere, addresses and folders of two sources."""
    mistakes: list[Mistake] = []
    seen: set[str] = set()
    feeds = [one.name for one in configuration.feed]
    mistakes += [(f"feed[{name}].name", "is used twice") for name in sorted({one for one in feeds if feeds.count(one) > 1})]
    for kind, sections in (("source", configuration.source), ("destination", configuration.destination)):
        for section in sections:
            if section.name in seen:
                mistakes.append((f"{kind}[{section.name}].name", "is used twice"))
            if kind == "source" and section.name in (API, HUB):
                mistakes.append((f"source[{section.name}].name", "is a name that the hub uses itself"))
            seen.add(section.name)
    sources = {s.name for s in configuration.source} | {API}
    targets = {d.name for d in configuration.destination} | {RECORD, REQUESTED}
    for source in configuration.source:
        for name in source.routes:
            if name not in targets:
                mistakes.append(
                    (f"source[{source.name}].routes", f"names {name!r}, which is no [[destination]], nor record, nor requested")
                )
        if source.return_to and source.return_to not in targets - {RECORD, REQUESTED}:
            mistakes.append((f"source[{source.name}].return_to", f"names {source.return_to!r}, which is no [[destination]]"))
    for n, route in enumerate(configuration.route, 1):
        if route.source not in sources:
            mistakes.append((f"route[{n}].source", f"names {route.source!r}, which is no [[source]]"))
        for name in route.to:
            if name not in targets:
                mistakes.append((f"route[{n}].to", f"names {name!r}, which is no [[destination]], nor record, nor requested"))
    listens: dict[str, str] = {}
    for where, listen in [
        *((f"source[{s.name}].listen", s.listen) for s in configuration.source if isinstance(s, MllpSourceSection)),
        ("web.listen", configuration.web.listen),
    ]:
        if listen in listens and not listen.endswith(":0"):
            mistakes.append((where, f"is the same address as {listens[listen]}"))
        listens.setdefault(listen, where)
    return mistakes


def path_mistakes(configuration: Configuration, base: Path) -> list[Mistake]:
    """Files that are named and not there, folders that would swallow each other's files."""
    mistakes: list[Mistake] = []
    named: list[tuple[str, Any]] = [("web", configuration.web), ("store", configuration.store), ("bell", configuration.bell)]
    named += [(f"source[{s.name}]", s) for s in configuration.source]
    named += [(f"destination[{d.name}]", d) for d in configuration.destination]
    named += [("dmp", configuration.dmp)] if configuration.dmp is not None else []
    named += [(f"feed[{one.name}]", one) for one in configuration.feed]
    for where, section in named:
        for key in _FILES:
            path = getattr(section, key, None)
            if path is not None and not (base / path).is_file():
                mistakes.append((f"{where}.{key}", "names a file that does not exist"))
    if configuration.mappings.folder is not None and not (base / configuration.mappings.folder).is_dir():
        mistakes.append(("mappings.folder", "names a folder that does not exist"))
    if configuration.cda.schematron_dir is not None and not (base / configuration.cda.schematron_dir).is_dir():
        mistakes.append(("cda.schematron_dir", "names a folder that does not exist"))
    return [*mistakes, *_sftp(configuration), *_folders(configuration, base)]


def password_variable(name: str) -> str:
    """The environment variable that may hold the password of a source or destination."""
    return "VAGUEMESTRE_SFTP_PASSWORD_" + "".join(c if c.isalnum() else "_" for c in name.upper())


def _sftp(configuration: Configuration) -> list[Mistake]:
    """Logins without a proof."""
    ways = [("source", s) for s in configuration.source] + [("destination", d) for d in configuration.destination]
    return [
        (
            f"{where}[{section.name}].key_file",
            f"is missing: key_file or password_file, or the variable {password_variable(section.name)}",
        )
        for where, section in ways
        if isinstance(section, SftpSourceSection | SftpDestinationSection)
        and section.key_file is None
        and section.password_file is None
        and not os.environ.get(password_variable(section.name))
    ]


def _folders(configuration: Configuration, base: Path) -> list[Mistake]:
    """Two sources on one folder, files put back where they are taken from."""
    mistakes: list[Mistake] = []
    taken: dict[str, str] = {}
    sources = [source for source in configuration.source if not isinstance(source, MllpSourceSection)]
    for source in sources:
        other = taken.setdefault(_located(source, source.path, base), source.name)
        if other != source.name:
            reason = f"is the folder of source[{other}] too: each file would go to one of them"
            mistakes.append((f"source[{source.name}].path", reason))
    for source in sources:
        here = _located(source, source.path, base)
        for key in ("done", "failed", "answers"):
            value = getattr(source, key)
            if not value or (key == "done" and value == DELETE):
                continue
            aside = _located(source, value, base)
            reason = ""
            if aside == here:
                reason = "is the folder that files are taken from"
            elif aside in taken:
                reason = f"is the folder that source[{taken[aside]}] takes files from"
            elif posixpath.dirname(aside) == here and fnmatchcase(posixpath.basename(aside), source.pattern):
                reason = "lies in path, and pattern matches its name: another name, or a narrower pattern"
            if reason:
                mistakes.append((f"source[{source.name}].{key}", reason))
    return mistakes


def _located(source: FolderSourceSection | SftpSourceSection, folder: Path | str, base: Path) -> str:
    """A folder, as one text that other sources' folders compare with."""
    if isinstance(source, FolderSourceSection):
        return posixpath.normpath(base.resolve() / folder)
    return f"{source.host}{posixpath.normpath(Path('/') / folder)}"
