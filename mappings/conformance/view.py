"""One message as rules look at it: its segments, those that play a part, and the documents that it carries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

from hub.formats.cda_header import CdaHeader, read_header
from hub.formats.er7 import Message, Segment
from hub.model.identity import PatientIdentity
from hub.model.refusals import MessageRefused
from hub.model.site import Site
from mappings.conformance.path import Parts
from mappings.conformance.rules import Severity
from mappings.hl7v2.obx_content import obx_bytes
from mappings.hl7v2.pfi_request import MetaTable
from mappings.hl7v2.pid import pid_identity
from mappings.tables import load


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a rule is broken, and how: a sentence's predicate, without values. `name`: a segment that is not there."""

    segment: Segment | None
    field: int = 0
    repetition: int = 0
    component: int = 0
    subcomponent: int = 0
    sentence: str = ""
    value: str = ""
    name: str = ""
    severity: Severity | None = None  # when it differs from the rule's


@dataclass(frozen=True, slots=True)
class Document:
    """A document OBX: its bytes and header as far as they can be read, or what stands in the way."""

    obx: Segment
    header: CdaHeader | None
    trouble: str = ""


class View:
    """A message, with what rules ask of it more than once."""

    def __init__(self, message: Message, site: Site) -> None:
        self.message, self.site = message, site
        self.parts: Parts = {
            "document": lambda: self.document_segments,
            "metadata": lambda: self.metadata,
            "flag": lambda: tuple(obx for obx in self.metadata if self.code(obx) in _metas().flags),
            "mail": lambda: self.others[:1],
            "later": lambda: message.segments("OBX")[1:],
            "first": lambda: message.segments("OBX")[:1],
        }

    @cached_property
    def document_segments(self) -> tuple[Segment, ...]:
        """The OBX that hold a document: the first ED that is no metadata, and any later one that says XML."""
        found: list[Segment] = []
        for obx in self.message.segments("OBX"):
            if self.code(obx) or obx.text(2).upper() != "ED":
                continue
            if not found or obx.text(5, 3).upper() == "XML":
                found.append(obx)
        return tuple(found)

    @cached_property
    def metadata(self) -> tuple[Segment, ...]:
        """The OBX of MetaDMPMSS, whatever their spelling."""
        return tuple(obx for obx in self.message.segments("OBX") if self.code(obx))

    @cached_property
    def others(self) -> tuple[Segment, ...]:
        """The OBX that are neither."""
        known = {obx.index for obx in (*self.document_segments, *self.metadata)}
        return tuple(obx for obx in self.message.segments("OBX") if obx.index not in known)

    @cached_property
    def identity(self) -> PatientIdentity:
        return pid_identity(self.message, self.site)

    @cached_property
    def documents(self) -> tuple[Document, ...]:
        """The documents, decoded, and their headers."""
        return tuple(self._document(obx) for obx in self.document_segments)

    def code(self, obx: Segment) -> str:
        """The code of MetaDMPMSS that an OBX means; empty when it means none."""
        return _metas().find(obx.text(3))

    def flag(self, code: str) -> Segment | None:
        """The OBX of a flag."""
        return next((obx for obx in self.metadata if self.code(obx) == code), None)

    def says(self, code: str) -> str:
        """What a flag says: Y, N, or empty when it is absent."""
        obx = self.flag(code)
        return obx.text(5) if obx is not None else ""

    def _document(self, obx: Segment) -> Document:
        try:
            data, _, _ = obx_bytes(obx, self.message.raw)
            return Document(obx, read_header(data))
        except MessageRefused as refused:
            return Document(obx, None, refused.sentence.rpartition(": ")[2])


def metadata_codes() -> tuple[str, ...]:
    """The codes of MetaDMPMSS in the order of the table."""
    return tuple(dict.fromkeys(_metas().code_of.values()))


@lru_cache(maxsize=1)
def _metas() -> MetaTable:
    return MetaTable.of(load(resources.files("mappings.tables").joinpath("meta_dmpmss.toml").read_text(encoding="utf-8")))
