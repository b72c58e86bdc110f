"""What the events of a stay mean, as tables that the mapping and the record share.

Standard: IHE PAM France 2.11.2 (ITI-31); HL7 v2.5.1 chapter 3, table 0003; FHIR R4 Encounter.status.
"""

from __future__ import annotations

# A cancelling event → the events whose movement it cancels. A06 and A07 cancel each other, and only when ZBE-4 says so.
CANCELS = {
    "A11": ("A01", "A04", "A05"),
    "A38": ("A05", "A14"),
    "A27": ("A14",),
    "A12": ("A02",),
    "A13": ("A03",),
    "A25": ("A16",),
    "A26": ("A15",),
    "A52": ("A21",),
    "A53": ("A22",),
    "A55": ("A54",),
}
CORRECTION = "Z99"

OPENING = frozenset({"A01", "A04"})
PLANNED = frozenset({"A05", "A14"})
PENDING = frozenset({"A15", "A16"})  # announced, not yet happened: they change neither status nor place

# A live movement → the status of the stay from then on; one that is not listed leaves it as it was.
STATUS_AFTER = {
    "A05": "planned",
    "A14": "planned",
    "A04": "in-progress",
    "A01": "in-progress",
    "A06": "in-progress",
    "A07": "in-progress",
    "A02": "in-progress",
    "A22": "in-progress",
    "A21": "onleave",
    "A03": "finished",
}
# The last movement was cancelled and none is left: what the stay is then. An event that is not listed was not the first one,
# so the patient is there.
STATUS_WITHOUT = {"A01": "cancelled", "A04": "cancelled", "A05": "cancelled", "A14": "cancelled", "A22": "onleave"}

# Movements that begin at the same instant happen in this order.
ORDER = ("A05", "A14", "A01", "A04", "A06", "A07", "A02", "A54", "A15", "A16", "A22", "A21", "A03")

# Keys of rows that are no movement of their own, made by senders without ZBE; keys of ZBE-1 begin with a system (`urn:…`).
NAMELESS_CANCEL = "cancel:"  # takes back the latest movement that its event cancels
NAMELESS_CORRECTION = "correct:"  # A08: says more of the movement that was current
