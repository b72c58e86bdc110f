"""One message of the CDA profiles, read as its checks and its translation need it.

Standard: CI-SIS transmission de documents CDA en HL7 v2, 2.1.2 §2.5, §2.6; parsing is lenient: codes only, any order of OBX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.formats.cda_header import canonical
from hub.formats.er7 import Message, Segment
from hub.model.identifiers import INS_NIA, INS_NIR, INS_NIR_DEMO, INS_NIR_TEST, InsMatricule
from hub.model.identity import PatientIdentity, ins_is_usable
from hub.model.once import once
from hub.model.record_change import INVISIBLE_PATIENT, INVISIBLE_REP_LEGAUX, MASQUE_PS, DocumentAction
from hub.model.site import Site
from mappings.hl7v2.cda_document import CdaDocument, read_cda
from mappings.hl7v2.line import Line
from mappings.hl7v2.pfi_profile import Profile
from mappings.hl7v2.pid import pid_identity
from mappings.hl7v2.prt import Prt

NATIONAL_ROOTS = {"production": (INS_NIR, INS_NIA), "test": (INS_NIR_TEST, INS_NIR_DEMO)}
ACTION_OF_OBX_11 = {"F": DocumentAction.CREATE, "C": DocumentAction.REPLACE, "D": DocumentAction.DELETE}
MASK_OF_FLAG = {"MASQUE_PS": MASQUE_PS, "INVISIBLE_PATIENT": INVISIBLE_PATIENT, "INVISIBLE_REP_LEGAUX": INVISIBLE_REP_LEGAUX}


@dataclass(frozen=True, slots=True)
class MetaTable:
    """MetaDMPMSS: the code of each spelling, which codes are flags, and which an audience requires, in order."""

    code_of: Mapping[str, str]
    flags: frozenset[str]
    needed_by: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> MetaTable:
        rows = table["meta"]
        audiences = ("pfi", "lps")
        return cls(
            {alias: row["code"] for row in rows for alias in row["aliases"]},
            frozenset(row["code"] for row in rows if row["flag"]),
            {one: tuple(row["code"] for row in rows if one in row["needed_by"]) for one in audiences},
        )

    def find(self, text: str) -> str:
        """The code that OBX-3.1 means; empty when it is none of the table's."""
        return self.code_of.get("".join(text.split()).upper(), "")


@dataclass(frozen=True, slots=True)
class Meta:
    """One metadata OBX: its code, its value (OBX-5.1 in capitals for a flag), its segment."""

    code: str
    value: str
    obx: Segment


class PfiRequest:
    """A message of the CDA profiles.

    `documents` are the OBX that hold a document: the first ED that is no metadata, and any later one that says XML (the body
    of a mail does not). `metas` are the metadata OBX, `others` OBX that are neither.
    """

    def __init__(self, message: Message, site: Site, profile: Profile, table: MetaTable) -> None:
        self.message, self.site, self.profile = message, site, profile
        documents: list[Segment] = []
        metas: list[Meta] = []
        others: list[Segment] = []
        for obx in message.segments("OBX"):
            code = table.find(obx.text(3))
            if code:
                value = obx.text(5)
                metas.append(Meta(code, "".join(value.split()).upper() if code in table.flags else "", obx))
            elif obx.text(2).upper() == "ED" and (not documents or obx.text(5, 3).upper() == "XML"):
                documents.append(obx)
            else:
                others.append(obx)
        self.documents, self.metas, self.others = tuple(documents), tuple(metas), tuple(others)
        self._values = {meta.code: meta.value for meta in reversed(metas)}

    @property
    def is_mdm(self) -> bool:
        return self.message.type.startswith("MDM")

    @property
    def is_oul(self) -> bool:
        return self.message.type.startswith("OUL")

    def says(self, flag: str) -> bool:
        """Whether a flag is Y; a flag that is absent says no."""
        return self._values.get(flag) == "Y"

    @once
    def action(self) -> DocumentAction | None:
        """What OBX-11 of the first document asks for; None when it is none of F, C, D."""
        return ACTION_OF_OBX_11.get(self.documents[0].text(11).upper()) if self.documents else None

    @once
    def identity(self) -> PatientIdentity:
        return pid_identity(self.message, self.site)

    @once
    def participations(self) -> tuple[Prt, ...]:
        return tuple(Prt(segment, self.message) for segment in self.message.segments("PRT"))

    @once
    def recipients(self) -> tuple[Prt, ...]:
        """Those of PRT that receive the mail and have an address."""
        return tuple(prt for prt in self.participations if prt.role == "RCT" and prt.address)

    def read_documents(self) -> tuple[CdaDocument, ...]:
        """The documents, decoded and their headers read.

        Raises:
            FieldMissing: an OBX-5 without data (101).
            FieldInvalid: not Base64, not XML, not a CDA (102).
        """
        return self.cdas

    @once
    def cdas(self) -> tuple[CdaDocument, ...]:
        """What `read_documents` gives, read once."""
        return tuple(read_cda(obx, self.message) for obx in self.documents)

    @once
    def companions(self) -> tuple[str, ...]:
        """Numbers of the documents that COMP_LOT says belong to this one, in the form of a CDA id.

        Standard: CI-SIS transmission de documents CDA en HL7 v2, 1.2, COMP_LOT (CE, root^extension).
        """
        lists = [Line.of(meta.obx, self.message).all(5) for meta in self.metas if meta.code == "COMP_LOT"]
        found = (canonical(one.text(1), one.text(2)) for values in lists for one in values)
        return tuple(dict.fromkeys(number for number in found if number))

    @once
    def mask(self) -> int:
        """What the flags hide, as bits."""
        return sum(bit for flag, bit in MASK_OF_FLAG.items() if self.says(flag))

    @once
    def national_ins(self) -> InsMatricule | None:
        """The INS that may go to national services: qualified, of this environment, with the right key."""
        return next((ins for ins in self._of_this_environment if ins.key_is_right), None) if self._is_qualified else None

    @property
    def why_no_national_ins(self) -> str:
        """The reason's code, when `national_ins` is None."""
        if not self._is_qualified or not self.identity.ins:
            return "INS_NOT_QUALIFIED"
        return "INS_KEY" if self._of_this_environment else "INS_ENVIRONMENT"

    @property
    def _is_qualified(self) -> bool:
        return ins_is_usable(self.identity.statuses)

    @once
    def _of_this_environment(self) -> tuple[InsMatricule, ...]:
        roots = NATIONAL_ROOTS.get(self.site.environment, NATIONAL_ROOTS["production"])
        return tuple(sorted((ins for ins in self.identity.ins if ins.oid in roots), key=lambda ins: roots.index(ins.oid)))

    @once
    def txa(self) -> Line | None:
        segment = self.message.first("TXA")
        return Line.of(segment, self.message) if segment is not None else None
