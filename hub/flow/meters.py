"""What the flow counts. Labels are names of the configuration and message types that the hub knows, never more."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

KNOWN_TYPES = frozenset(
    {"ADT", "ORU", "MDM", "ORM", "OML", "OMI", "OUL", "SIU", "ZAM", "ACK", "MFN", "DFT", "BAR", "RDE", "QBP", "VXU"}
)


class Meters:
    """Counters and histograms of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "vaguemestre_messages",
            "Messages taken in, by what they were answered",
            ["source", "type", "answer"],
            registry=self.registry,
        )
        self.ack_seconds = Histogram(
            "vaguemestre_ack_seconds",
            "From the last byte of a message to its acknowledgement",
            ["source"],
            registry=self.registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.deliveries = Counter(
            "vaguemestre_delivery_attempts", "Ends of delivery attempts", ["destination", "outcome"], registry=self.registry
        )
        self.breaker_open = Gauge(
            "vaguemestre_breaker_open", "1 while a destination is considered down", ["destination"], registry=self.registry
        )
        self.source_down = Gauge(
            "vaguemestre_source_down", "1 while files cannot be taken from there", ["source"], registry=self.registry
        )
        self.files = Counter(
            "vaguemestre_files", "Files taken in, by where they were put", ["source", "end"], registry=self.registry
        )
        self.fenced = Counter("vaguemestre_fenced", "Marks refused because the lane had a new owner", registry=self.registry)
        self.workers_recycled = Counter(
            "vaguemestre_workers_recycled", "Worker processes ended and replaced", ["reason"], registry=self.registry
        )
        self._answers: dict[tuple[str, str, str], Counter] = {}
        self._acks: dict[str, Histogram] = {}

    def answered(self, source: str, message_type: str, answer: str, seconds: float) -> None:
        """One message was answered."""
        kind = message_type[:3]
        key = (source, kind if kind in KNOWN_TYPES else "other", answer)
        counter = self._answers.get(key)
        if counter is None:
            counter = self._answers[key] = self.messages.labels(*key)
            self._acks.setdefault(source, self.ack_seconds.labels(source))
        counter.inc()
        self._acks[source].observe(seconds)
