"""PRT: who sends, who receives, where answers go. A segment of HL7 v2.9 that CI-SIS uses in 2.5 and 2.6.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, PRT; HL7 v2.9 §7.4.4.
"""

from __future__ import annotations

from hub.formats.er7 import Message, Segment, unescape
from hub.formats.er7.charset import decode
from hub.model.identifiers import INS_ROOTS, is_oid
from hub.model.mail import RecipientKind
from mappings.hl7v2.line import Line
from mappings.national_identifiers import FINESS_SYSTEM, RPPS_SYSTEM, professional_identifier, structure_identifier

PATIENT_DOMAIN = "@patient.mssante.fr"
_ADDRESS, _ONE_LATE = 15, 16


class Prt:
    """One participation. `role` is SB (sender), RCT (recipient) or REPLY; `address` is PRT-15.4 as written.

    `is_shifted`: the address stands in field 16, one too late, as in samples of the specification; it is read there.
    """

    __slots__ = ("_fields", "_message", "_place", "_segment", "address", "is_shifted", "role")

    def __init__(self, segment: Segment, message: Message) -> None:
        self._segment, self._message = segment, message
        self._fields = Line.of(segment, message)
        self.role = self._fields.text(4).replace(" ", "").upper()
        self.is_shifted = not self._fields.raw(_ADDRESS).strip() and "@" in self._fields.text(_ONE_LATE, 4)
        self._place = _ONE_LATE if self.is_shifted else _ADDRESS
        self.address = self._fields.text(self._place, 4)

    @property
    def is_named(self) -> bool:
        """Whether it names a person (PRT-5), a structure (PRT-8) or a device (PRT-10)."""
        return any(not self._fields.one(field).is_empty() for field in (5, 8, 10))

    @property
    def is_patient(self) -> bool:
        """Whether the recipient is the patient: by type INS, by an INS authority, or by the domain of the address."""
        person = self._fields.one(5)
        authorities = {person.text(9), person.text(9, 2)}
        return person.text(13) == "INS" or bool(authorities & INS_ROOTS) or self.address.lower().endswith(PATIENT_DOMAIN)

    @property
    def kind(self) -> RecipientKind:
        """Whom it means."""
        if self.is_patient:
            return RecipientKind.PATIENT
        named = ((5, RecipientKind.PROFESSIONAL), (8, RecipientKind.ORGANISATION), (10, RecipientKind.APPLICATION))
        return next((kind for field, kind in named if not self._fields.one(field).is_empty()), RecipientKind.UNKNOWN)

    @property
    def rpps(self) -> str:
        """The professional's RPPS (PRT-5), without the prefix that its type puts before it."""
        person = self._fields.one(5)
        oid = person.text(9, 2) or person.text(9)
        found = professional_identifier(person.text(), oid if is_oid(oid) else "", person.text(13))
        return found["value"] if found is not None and found.get("system") == RPPS_SYSTEM else ""

    @property
    def finess(self) -> str:
        """The structure's FINESS (PRT-8), without the prefix that its type puts before it."""
        structure = self._fields.one(8)
        oid = structure.text(6, 2)
        found = structure_identifier(structure.text(10), oid if is_oid(oid) else "", structure.text(7))
        return found["value"] if found is not None and found.get("system") == FINESS_SYSTEM else ""

    @property
    def is_one_address(self) -> bool:
        """Whether PRT-15 holds one mail address and nothing that could break a mail header, and one PRT stands on the line."""
        segment, place = self._segment, self._place
        if segment.repetitions(place) > 1 or any(segment.raw(n).strip() == b"UC" for n in range(3, segment.field_count() + 1)):
            return False
        start, end = segment.component_span(place, 4)
        written = decode(unescape(self._message.raw[start:end], self._message.separators), self._message.charset).strip(" ")
        local, at, domain = written.partition("@")
        return bool(at and local and domain and "@" not in domain) and not any(
            c.isspace() or c in ',;<>"' or ord(c) < 32 or ord(c) == 127 for c in written
        )

    def at(self, field: int) -> str:
        return self._segment.at(field)

    def has_address(self) -> bool:
        return self._segment.raw(self._place).strip() not in (b"", b'""')
