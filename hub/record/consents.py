"""What patients said about their DMP: who must not be fed, and why.

Standard: IHE PAM France 2.11.2, ZFA; code de la santé publique L1111-15 (feeding the DMP is the rule, opposition the exception).
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from hub.model.consent_codes import ABSENT, CLOSED, DMP_STATE, DMP_STATES, FEEDING_CODES, OPPOSED
from hub.model.record_change import Json
from hub.store import Transaction

CONSENT_OPPOSED, DMP_CLOSED, DMP_ABSENT = "ConsentOpposed", "DMPClosed", "DMPAbsent"
_REASON_OF_STATE = {CLOSED: DMP_CLOSED, ABSENT: DMP_ABSENT}

# Those who are one person after merges count as one; `|| ''` lets a number be compared with the start of a key.
_FEEDING = (
    "WITH root(n, r) AS (SELECT p.id, COALESCE(p.merged_into, p.id) FROM patient p WHERE p.id IN ({keys})),"
    " family(n, m) AS (SELECT n, r FROM root UNION ALL"
    " SELECT root.n, p.id FROM root CROSS JOIN patient p WHERE p.merged_into = root.r)"
    " SELECT f.n, c.event_time, c.id, c.body FROM family f CROSS JOIN resource c"
    " WHERE c.type = 'Consent' AND c.key = f.m || '|dmp-feeding'"
)


def dmp_refusal(tx: Transaction, patients: Sequence[int]) -> dict[int, str]:
    """Why the DMP of each patient must not be fed now; who is not in the answer may be fed.

    `ConsentOpposed`: informed and opposed (IO); `DMPClosed`, `DMPAbsent`: nothing can be sent there. The latest message counts,
    of all numbers that are one person. Nobody asked, or nothing told: feeding is allowed.
    """
    if not patients:
        return {}
    said: dict[int, tuple[str, str]] = {}
    for number, _, _, body in sorted(tx.rows_in(_FEEDING, sorted(set(patients))), key=lambda row: row[:3]):
        before = said.get(number, ("", ""))
        now = _said(orjson.loads(body))
        said[number] = now[0] or before[0], now[1] or before[1]
    found = {
        number: CONSENT_OPPOSED if code == OPPOSED else _REASON_OF_STATE.get(state, "") for number, (code, state) in said.items()
    }
    return {number: reason for number, reason in found.items() if reason}


def _said(body: Json) -> tuple[str, str]:
    """The feeding code and the state of the DMP."""
    code = state = ""
    for concept in body.get("provision", {}).get("code", ()):
        for coding in concept.get("coding", ()):
            if coding.get("system") == FEEDING_CODES:
                code = str(coding.get("code", ""))
    for extension in body.get("extension", ()):
        if extension.get("url") == DMP_STATE:
            for part in extension.get("extension", ()):
                coding = part.get("valueCoding", {})
                if coding.get("system") == DMP_STATES:
                    state = str(coding.get("code", ""))
    return code, state
