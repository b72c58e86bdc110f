"""Who a message speaks of, and the one rule of when an INS may be used."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from hub.model.identifiers import InsMatricule, LocalIdentifier


def ins_is_usable(statuses: tuple[str, ...]) -> bool:
    """Whether an INS that came with these identity statuses (PID-32) may be used: only when one of them is VALI, and none
    says that the identity is doubtful (DOUT) or fictive (FICT).

    Standard: IHE PAM France 2.11.2, INS annex; RNIV 1 2.0 §3.2.3 (EXI SI 09).
    """
    return "VALI" in statuses and "DOUT" not in statuses and "FICT" not in statuses


@dataclass(frozen=True, slots=True, repr=False)
class PatientIdentity:
    """The identity that PID carries.

    `local` are the IPPs (with authority), `ins` every INS of PID-3 whatever its status, `statuses` the repetitions of
    PID-32, `birth_date` as sent (`YYYYMMDD` or shorter), `sex` F, M, U or empty.
    """

    local: tuple[LocalIdentifier, ...] = ()
    ins: tuple[InsMatricule, ...] = ()
    statuses: tuple[str, ...] = ()
    birth_name: str = ""
    first_given_name: str = ""
    birth_given_names: str = ""
    used_name: str = ""
    birth_date: str = ""
    sex: str = ""
    birth_place: str = ""

    @property
    def usable_ins(self) -> InsMatricule | None:
        """The INS to work with: the NIR before the NIA; None unless the identity is qualified."""
        if not self.ins or not ins_is_usable(self.statuses):
            return None
        return min(self.ins, key=lambda ins: ins.oid == "1.2.250.1.213.1.4.9")

    @property
    def is_known(self) -> bool:
        """Whether the message names a patient at all."""
        return bool(self.local) or self.usable_ins is not None

    @property
    def traits(self) -> tuple[str, str, str]:
        """Birth name, birth date and sex in comparable form: what must agree before an INS joins two IPPs."""
        return comparable(self.birth_name), self.birth_date[:8], self.sex


def comparable(name: str) -> str:
    """A name without accents, case, hyphens, apostrophes and doubled blanks: how traits are compared."""
    plain = unicodedata.normalize("NFKD", name)
    letters = (c if c.isalnum() else " " for c in plain if not unicodedata.combining(c))
    return " ".join("".join(letters).upper().split())
