"""A history of a cluster under faults: what senders did, what destinations received, what went wrong, what is kept at the end.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

GRACE_S = 3.0  # how long after the end of a trouble its consequences may still be seen


# ---- what was seen outside -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a sender, over all its sendings."""

    source: str
    connection: int
    control_id: str
    patient: str
    digest: bytes  # SHA-256 of the bytes
    rest: bytes  # SHA-256 of the bytes without MSH-10
    sent_at: float  # before the first byte of the first sending
    acked_at: float | None  # after the first AA
    code: str  # the last answer: AA, AE, AR, empty when none came
    sends: int = 1
    changes: str = ""  # the type of resource of which it must make one version
    stay: str = ""  # what tells apart the Encounters of one patient


@dataclass(frozen=True, slots=True)
class Arrival:
    """One arrival at a destination. `answered`: the receiver said AA, in time, over a connection that did not end at once."""

    connection: int
    control_id: str
    patient: str
    digest: bytes
    rest: bytes
    at: float
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault, from its first to its last moment."""

    kind: str
    who: str
    began_at: float
    ended_at: float

    def touches(self, since: float, until: float) -> bool:
        return self.began_at <= until and since <= self.ended_at + GRACE_S


# ---- what the ledger and the record hold ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeptMessage:
    id: int
    source: str
    control_id: str
    sha256: bytes
    state: str
    ack_code: str
    patient_id: int | None
    open_n: int = 0
    failed_n: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    id: int
    message_id: int
    destination: str
    state: str
    attempts: int
    replay: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    delivery_id: int
    n: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Lane:
    key: str
    destination: str
    blocked_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    resource_id: int
    type: str
    version: int


@dataclass(frozen=True, slots=True)
class Effect:
    """A row of provenance: a message made a version."""

    resource_id: int
    version: int
    message_id: int


@dataclass(slots=True)
class End:
    """The rows at the end."""

    messages: list[KeptMessage] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """`arrivals` by destination, in order; `routes` says where the messages of a source go (`record` among them or not)."""

    messages: list[Message] = field(default_factory=list)
    arrivals: dict[str, list[Arrival]] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    end: End = field(default_factory=End)
    routes: dict[str, tuple[str, ...]] = field(default_factory=dict)
