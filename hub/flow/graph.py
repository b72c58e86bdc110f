"""Sources, routes and destinations as one validated graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hub.formats.er7 import Message

RECORD, REQUESTED = "record", "requested"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a message must be to take a route; empty criteria always hold."""

    type: str = ""
    event: str = ""
    sending_app: str = ""

    def holds(self, message: Message) -> bool:
        type_, _, event = message.type.partition("^")
        return (
            (not self.type or self.type == type_)
            and (not self.event or self.event == event)
            and (not self.sending_app or self.sending_app == message.sending_app)
        )

    def __str__(self) -> str:
        parts = [
            f"{name} = {value}"
            for name, value in (("type", self.type), ("event", self.event), ("sending_app", self.sending_app))
            if value
        ]
        return " and ".join(parts) or "always"


@dataclass(frozen=True, slots=True)
class Route:
    """From one source to destinations, when `when` holds; `mapping` names a rewriting of this installation."""

    source: str
    to: tuple[str, ...]
    when: Condition = field(default_factory=Condition)
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A way in, as far as the flow cares.

    `unknown_patient` is `create` or `refuse`: what becomes of a document of flow 6 for a patient whom the record does not know.
    """

    name: str
    kind: str
    listen: str = ""
    return_to: str = ""
    strict_control_id: bool = False
    charset: str = "utf-8"
    application_error_to: str = ""
    unknown_patient: str = "create"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how long to try again; seconds."""

    base_s: float = 5.0
    cap_s: float = 3600.0
    give_up_s: float = 72 * 3600.0
    probe_s: float = 5.0


@dataclass(frozen=True, slots=True)
class DestinationSpec:
    """A way out, as far as the flow cares.

    `on_unsure` is `resend`, `hold` or `ask`, `on_ae` is `refuse` or `retry`, `on_dead` is `skip` or `block`. `workers`: how many
    processes may deliver there at once, 0 for all: a receiver may take one connection only.
    """

    name: str
    kind: str
    connect: str = ""
    on_unsure: str = "resend"
    on_ae: str = "refuse"
    on_dead: str = "skip"
    line_ends: str = "cr"
    workers: int = 0
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class Target:
    """One delivery to make."""

    destination: str
    mapping: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything that `vaguemestre check` prints."""

    sources: dict[str, SourceSpec]
    routes: tuple[Route, ...]
    destinations: dict[str, DestinationSpec]

    def targets(self, source: str, message: Message, requested: Sequence[str], *, record: bool) -> list[Target]:
        """Where a message goes, each destination once, in order of the configuration.

        `requested` are the destinations that the message asks for; `record` says whether the hub can translate it.
        """
        found: dict[str, Target] = {}
        for route in self.routes:
            if route.source != source or not route.when.holds(message):
                continue
            for name in route.to:
                if name == REQUESTED:
                    for asked in requested:
                        found.setdefault(asked, Target(asked))
                elif name != RECORD or record:
                    found.setdefault(name, Target(name, "" if name == RECORD else route.mapping))
        return list(found.values())

    def files(self, source: str, message: Message) -> bool:
        """Whether some route of this source leads to the record."""
        return any(r.source == source and RECORD in r.to and r.when.holds(message) for r in self.routes)

    def takes_requests(self, source: str, message: Message) -> bool:
        """Whether some route of this source makes deliveries from what the message asks for."""
        return any(r.source == source and REQUESTED in r.to and r.when.holds(message) for r in self.routes)

    def blocked(self, destination: str) -> str:
        """Why a delivery to this destination must wait; empty when it can leave."""
        return "" if destination == RECORD or destination in self.destinations else "destination not configured"
