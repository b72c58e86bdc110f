"""PRT: who sends, who receives, where answers go. A segment of HL7 v2.9 that CI-SIS uses in 2.5 and 2.6.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2, PRT; HL7 v2.9 §7.4.4.
"""

from __future__ import annotations

from hub.formats.er7 import Message, Segment, unescape
from hub.formats.er7.charset import decode
from hub.model.identifiers import INS_ROOTS
from mappings.hl7v2.line import Line

PATIENT_DOMAIN = "@patient.mssante.fr"


class Prt:
    """One participation. `role` is SB (sender), RCT (recipient) or REPLY; `address` is PRT-15.4 as written."""

    __slots__ = ("_fields", "_message", "_segment", "address", "role")

    def __init__(self, segment: Segment, message: Message) -> None:
        self._segment, self._message = segment, message
        self._fields = Line(segment, message)
        self.role = self._fields.text(4).replace(" ", "").upper()
        self.address = self._fields.text(15, 4)

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
    def is_one_address(self) -> bool:
        """Whether PRT-15 holds one mail address and nothing that could break a mail header."""
        if self._segment.repetitions(15) > 1:
            return False
        start, end = self._segment.component_span(15, 4)
        written = decode(unescape(self._message.raw[start:end], self._message.separators), self._message.charset).strip(" ")
        local, at, domain = written.partition("@")
        return bool(at and local and domain and "@" not in domain) and not any(
            c.isspace() or c in ',;<>"' or ord(c) < 32 or ord(c) == 127 for c in written
        )

    def at(self, field: int) -> str:
        return self._segment.at(field)

    def has_address(self) -> bool:
        return self._segment.raw(15).strip() not in (b"", b'""')
