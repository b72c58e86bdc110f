"""What a mapping says should change in the patient record: plain data, small enough to cross a process boundary.

Resource bodies are FHIR R4 JSON as dicts, without `id`, `meta` and `subject`: the record adds those. They say what one message
says: an element that is absent keeps its value in the record, one that is None is removed (`merged`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hub.model.identity import PatientIdentity
from hub.model.refusals import Finding

Json = dict[str, Any]

# Bits of what the professional or the patient hid (JDV_J08), tested in SQL on every read path.
MASQUE_PS, INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX = 1, 2, 4
CONFIDENTIALITY_VERY_RESTRICTED = 8


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """One FHIR resource to create or update.

    `key` identifies the thing across messages, `system|value` (for an Encounter its visit number): the same key updates
    the same resource. `path` is where in the message the fact stands (`PV1`, `OBX[2]-5`). `event_time` orders updates of
    one resource (MSH-7 in UTC microseconds; 0 = unknown). `defaults` holds elements that FHIR requires and the message does
    not say: they count only while the record has none.

    For what several applications tell of in turn (orders, reports, appointments): `gathers` makes identifiers add up, lets an
    older message fill what the record lacks, and lets a message without a patient speak of a thing that is known. `adds` and
    `removes` hold elements of lists to put in or take out (a participant, a result). `status_stays` names the stored statuses
    that this message does not change, `status_wins` those that would not have come about, had this message not come late.

    A fact of a document (`DocumentChange.facts`) is told whole: what its body does not say is not said any more. `contents` are
    bytes that stand in the message; an attachment's `"url": "#content0"` stands for the first of them.
    """

    type: str
    key: str
    body: Json
    path: str
    event_time: int = 0
    defaults: Json = field(default_factory=dict)
    gathers: bool = False
    adds: Json = field(default_factory=dict)
    removes: Json = field(default_factory=dict)
    status_stays: frozenset[str] = frozenset()
    status_wins: frozenset[str] = frozenset()
    contents: tuple[ContentRange, ...] = ()


class MovementAction(StrEnum):
    """ZBE-4."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    CANCEL = "CANCEL"


@dataclass(frozen=True, slots=True)
class MovementChange:
    """One movement of a stay that a message inserts, updates or cancels; the stay is computed from all of them.

    `encounter` is the key of the stay (that of its `ResourceChange`), `key` identifies the movement within it (ZBE-1, or made
    of event and time by senders without ZBE). `event` is the message's (A01, Z99, …), `original_event` that of the movement
    which is updated or cancelled (ZBE-6). `start` is a FHIR dateTime (ZBE-2). `facts` are the elements of an Encounter that
    hold from then on: class, location, participant, serviceType, serviceProvider, … Names that begin with `_` are none: they
    tell the record more of the movement (`hub.record.stay`).
    """

    encounter: str
    key: str
    action: MovementAction
    event: str
    start: str
    path: str
    original_event: str = ""
    historic: bool = False
    nature: str = ""
    facts: Json = field(default_factory=dict)
    event_time: int = 0


class IdentityActKind(StrEnum):
    MERGE = "MERGE"  # `prior` turned out to be the message's patient
    UNMERGE = "UNMERGE"  # `prior` is another person after all
    RENUMBER = "RENUMBER"  # numbers of `prior` are replaced by those of the message, for the same patient


@dataclass(frozen=True, slots=True)
class IdentityAct:
    """What a message does to patients' numbers, beside telling who it speaks of. Done when the message is routed.

    `prior` holds the numbers of MRG-1 (for UNMERGE of the second PID). `removes_ins`: all INS of the patient go (PID-3 holds
    `""` as INS). An INS among `prior` of a RENUMBER is replaced by that of PID-3, without asking a person.
    """

    kind: IdentityActKind
    prior: PatientIdentity
    path: str = "MRG-1"
    removes_ins: bool = False


class DocumentAction(StrEnum):
    CREATE = "create"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Where a document's bytes stand inside the kept message: `raw[offset:offset + length]`, then decoded.

    `encoding` is `base64` (lenient: blanks dropped, padding added) or `text` (HL7 escapes undone, UTF-8).
    An `inner` range, `(offset, length)`, is one of Base64 inside those decoded bytes (an attachment of a CDA): then they are
    decoded once more. `size` and `sha1` are those of the bytes that come out at last.
    """

    offset: int
    length: int
    encoding: str
    content_type: str
    size: int
    sha1: bytes
    inner: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """One document to file, replace or delete.

    `master_id` is the document's own id (`urn:oid:…`, a CDA's `id` in canonical form, or `system|value` outside CDA),
    `replaces` the master id of its predecessor, `set_id` the id all versions share. `body` is the DocumentReference
    without identifiers, content and relatesTo, which the record writes. `mask` holds the bits above, which its `facts` share:
    what the document's content says, translated by `facts_mapping` (empty: its content was not read). `inner_content` are the
    bytes that a document holds instead of structured content (the PDF of a CDA of level 1).
    """

    action: DocumentAction
    master_id: str
    path: str
    body: Json = field(default_factory=dict)
    content: ContentRange | None = None
    set_id: str = ""
    version_number: int = 0
    replaces: str = ""
    mask: int = 0
    event_time: int = 0
    facts: tuple[ResourceChange, ...] = ()
    facts_mapping: str = ""
    inner_content: ContentRange | None = None


@dataclass(frozen=True, slots=True)
class RecordChange:
    """All that one message changes, applied in one transaction or not at all.

    `patient` is the FHIR Patient without identifiers (the record writes them after matching); `mapping` names the
    translation and its version, for Provenance.
    """

    mapping: str
    identity: PatientIdentity | None = None
    patient: Json | None = None
    patient_path: str = "PID"
    event_time: int = 0
    resources: tuple[ResourceChange, ...] = ()
    movements: tuple[MovementChange, ...] = ()
    acts: tuple[IdentityAct, ...] = ()
    documents: tuple[DocumentChange, ...] = ()
    findings: tuple[Finding, ...] = ()


def merged(stored: Json, change: Json, defaults: Json | None = None) -> Json:
    """`stored` after `change`, a new dict: objects merge, None removes, anything else replaces; extensions merge by their url.

    Standard: RFC 7396 JSON Merge Patch, but for `extension`.
    """
    result = {**defaults, **stored} if defaults else dict(stored)
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            before = result.get(name)
            result[name] = merged(before if isinstance(before, dict) else {}, value)
        elif name == "extension":
            said = {extension["url"] for extension in value}
            kept = [extension for extension in result.get(name, ()) if extension["url"] not in said]
            every = kept + [extension for extension in value if len(extension) > 1]
            every.sort(key=lambda extension: str(extension["url"]))
            result[name] = every
            if not every:
                del result[name]
        else:
            result[name] = value
    return {name: value for name, value in result.items() if value != {}}
