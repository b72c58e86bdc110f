"""The rule files of a deployment: found whatever their letter case, indexed by name and template, translated once."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from lxml import etree

from hub.formats.schematron import Origin, RuleChoice, Stylesheet, read_schema, to_xslt
from hub.formats.schematron.choice import model_of, version_of

HEADER, DOCTYPE = "header", "doctype"
FORMAT = 1  # of what is cached: raise it with every change of the translation
_HEADER_FILES = ("asip-struct-min-strucmin", "ci-sis_structurationminimale")
_PARTS = frozenset({"profils", "include", "abstract", "moteur", "terminologies"})  # folders without rules of a document type
_SCHEMA = re.compile(rb"<(?:[\w.-]+:)?schema[\s>]")
_INCLUDED = re.compile(r"""<(?:[\w.-]+:)?include\s[^>]*href\s*=\s*["']([^"'#]+)""")
_VALUE_SET = re.compile(r"voc-([0-9.]+)-DYNAMIC\.xml", re.IGNORECASE)
_SVS = "{urn:ihe:iti:svs:2008}"


@dataclass(frozen=True, slots=True)
class Translated:
    """A rule file as XSLT; `absent` are value sets that it names and that are not there."""

    stylesheet: Stylesheet
    checks: int
    absent: tuple[str, ...]


class Kit:
    """A folder of rule files. What is translated is kept under `cache`, if that can be written."""

    def __init__(self, folder: Path, cache: Path | None) -> None:
        self._folder, self._cache = folder.resolve(), cache
        self._listed: dict[str, dict[str, str]] = {}
        self._read: dict[str, tuple[int, int]] = {}  # size and time of the files of the translation in hand

    # ---- which rules -----------------------------------------------------------------------------------------------

    @cached_property
    def files(self) -> dict[str, str]:
        """Whole schemas by their stem in lower case; the one nearest the top where a name is there twice."""
        found: dict[str, str] = {}
        for path in sorted(self._folder.rglob("*.sch"), key=lambda one: (len(one.parts), one)):
            with path.open("rb") as stream:
                if _SCHEMA.search(stream.read(1 << 16)):
                    found.setdefault(path.stem.lower(), str(path))
        return found

    @cached_property
    def of_documents(self) -> dict[str, str]:
        """Those for a document type."""
        top = len(self._folder.parts)
        return {stem: file for stem, file in self.files.items() if not _PARTS.intersection(Path(file).parts[top:-1])}

    @cached_property
    def models(self) -> dict[str, list[tuple[str, str]]]:
        """Versions and rule files by the template that they ask for, oldest version first."""
        found: dict[str, list[tuple[str, str]]] = {}
        for file in self.of_documents.values():
            model = model_of(self._texts(file))
            if model:
                found.setdefault(model, []).append((version_of(Path(file).stem), file))
        return {model: sorted(files) for model, files in found.items()}

    def _texts(self, file: str) -> Iterator[str]:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
        yield text
        for href in _INCLUDED.findall(text):
            part = self.find(href, file)
            if part is not None:
                yield Path(part).read_text(encoding="utf-8", errors="replace")

    def header(self) -> str | None:
        """The rules of every document's header."""
        return next((self.files[name] for name in _HEADER_FILES if name in self.files), None)

    def of_document(self, choice: RuleChoice) -> str | None:
        """The rules of a document's type: what it names itself, else by its template, the version it says or the newest."""
        for name in choice.named:
            file = self.of_documents.get(name[:-4].lower())
            if file is not None:
                return file
        for model, extension in choice.models if choice.has_body else ():
            versions = self.models.get(model)
            if versions:
                return dict(versions).get(extension, versions[-1][1])
        return None

    def chosen(self, checks: tuple[str, ...], choice: RuleChoice) -> list[str]:
        """The rule files for one document, in the order of `checks`; the header's where it has none of its own."""
        found: list[str | None] = []
        for check in checks:
            if check == HEADER:
                found.append(self.header())
            elif check == DOCTYPE:
                found.append(self.of_document(choice) or self.header())
            else:
                found.append(self.files.get(check.removesuffix(".sch").lower()))
        return list(dict.fromkeys(file for file in found if file is not None))

    # ---- translation -------------------------------------------------------------------------------------------------

    def translated(self, file: str) -> Translated:
        """A rule file as XSLT, from the cache where none of its files changed.

        Raises:
            Misconfigured: with file, line and reason.
        """
        cached = self._cached(file)
        if cached is not None:
            return cached
        self._read = {}
        schema = read_schema(file, self)
        done = Translated(to_xslt(schema, self.uri(file)), schema.checks, tuple(sorted({name for name, _ in schema.absent})))
        self._keep(file, done)
        return done

    def _place(self, file: str) -> Path | None:
        name = hashlib.sha256(f"{FORMAT}\0{file}".encode()).hexdigest()[:32]
        return self._cache / f"{name}.json" if self._cache is not None else None

    def _cached(self, file: str) -> Translated | None:
        place = self._place(file)
        try:
            kept = json.loads(place.read_text(encoding="utf-8")) if place is not None else None
            if kept is None or any(_stamp(name) != tuple(stamp) for name, stamp in kept["files"].items()):
                return None
            if any(self.find(name, file) is not None for name in kept["absent"]):
                return None
            origins = tuple(Origin(kept["names"][one[0]], one[1]) if one else None for one in kept["origins"])
            return Translated(Stylesheet(kept["text"], origins), kept["checks"], tuple(kept["absent"]))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    def _keep(self, file: str, done: Translated) -> None:
        place = self._place(file)
        if place is None:
            return
        names = sorted({one.file for one in done.stylesheet.origins if one is not None})
        number = {name: n for n, name in enumerate(names)}
        kept = {
            "files": self._read,
            "names": names,
            "text": done.stylesheet.text,
            "origins": [[number[one.file], one.line] if one is not None else None for one in done.stylesheet.origins],
            "checks": done.checks,
            "absent": done.absent,
        }
        part = place.with_suffix(f".{os.getpid()}.part")
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(kept), encoding="utf-8")
            part.replace(place)
        except OSError:
            part.unlink(missing_ok=True)

    # ---- hub.formats.schematron.RuleFiles ------------------------------------------------------------------------------

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError.
        """
        content = Path(name).read_bytes()
        self._read[name] = _stamp(name)
        return content

    def find(self, name: str, beside: str) -> str | None:
        """The file that `beside` calls `name`; a value set of the header that is not there is made from one of the kit's."""
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(beside), name.replace("\\", "/")))
        if Path(wanted).is_file():
            return wanted
        there = self._in_other_case(wanted)
        if there is not None:
            return there
        value_set = _VALUE_SET.fullmatch(posixpath.basename(wanted))
        return self._made(value_set[1]) if value_set is not None else None

    def uri(self, name: str) -> str:
        return Path(name).as_uri()

    def _in_other_case(self, wanted: str) -> str | None:
        here = "/"
        for part in wanted.split("/")[1:]:
            if here not in self._listed:
                try:
                    self._listed[here] = {one.name.lower(): one.name for one in sorted(Path(here).iterdir(), reverse=True)}
                except OSError:
                    self._listed[here] = {}
            known = part if Path(here, part).exists() else self._listed[here].get(part.lower())
            if known is None:
                return None
            here = posixpath.join(here, known)
        return here if Path(here).is_file() else None

    @cached_property
    def _aside(self) -> Path:
        """Where value sets are written without a cache; gone with this kit."""
        self._held = TemporaryDirectory(prefix="vaguemestre-")
        return Path(self._held.name)

    @cached_property
    def _value_sets(self) -> dict[str, Path]:
        """Published value sets (IHE SVS) by their OID."""
        found: dict[str, Path] = {}
        for path in sorted(self._folder.rglob("JDV_*.xml")):
            with path.open("rb") as stream:
                named = re.search(rb"""\sid\s*=\s*["']([0-9.]+)["']""", stream.read(4096))
            if named is not None:
                found.setdefault(named[1].decode("ascii"), path)
        return found

    def _made(self, oid: str) -> str | None:
        """A header value set written from the published one of the same OID: kits lack some of the former."""
        published = self._value_sets.get(oid)
        if published is None:
            return None
        root = etree.Element("valueSets")
        concepts = etree.SubElement(etree.SubElement(root, "valueSet", id=oid), "conceptList")
        try:
            tree = etree.parse(str(published), etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
            for one in tree.iter(f"{_SVS}Concept"):
                coded = {name: one.get(name, "") for name in ("code", "codeSystem", "displayName")}
                etree.SubElement(concepts, "concept", coded)
            made = (self._cache or self._aside) / f"voc-{oid}.xml"
            made.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.write_bytes(etree.tostring(root))
        except (OSError, etree.LxmlError):
            return None
        self._read[str(published)] = _stamp(str(published))
        return str(made)


def _stamp(name: str) -> tuple[int, int]:
    try:
        found = Path(name).stat()
    except OSError:
        return (-1, -1)
    return (found.st_size, found.st_mtime_ns)
