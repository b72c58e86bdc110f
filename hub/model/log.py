"""One way to log: an event name and fields of a closed set. A field that is not in the set raises, so that no name, INS or
raw message can slip in.
"""

from __future__ import annotations

from typing import Any

import structlog

FIELDS = frozenset(
    {
        "ack",
        "at",
        "attempts",
        "bytes",
        "certificate",
        "code",
        "condition",
        "connection",
        "connections",
        "count",
        "delivery_id",
        "destination",
        "duration_ms",
        "edge",
        "environment",
        "error",
        "event_time",
        "file",
        "http_status",
        "job",
        "key",
        "lane_hash",
        "limit",
        "listen",
        "message_id",
        "message_type",
        "method",
        "path",
        "peer",
        "pid",
        "reason",
        "role",
        "seconds",
        "signal",
        "size",
        "source",
        "state",
        "store",
        "token_name",
        "url",
        "version",
        "worker",
    }
)

_logger = structlog.get_logger("vaguemestre")


class UnknownLogField(TypeError):
    """A log call used a field outside the closed set."""


def event(name: str, *, level: str = "info", **fields: Any) -> None:
    """Write one structured line: codes, counts and locations, never a value of a message.

    Raises:
        UnknownLogField: a field is not in FIELDS.
    """
    unknown = fields.keys() - FIELDS
    if unknown:
        raise UnknownLogField(", ".join(sorted(unknown)))
    getattr(_logger, level)(name, **fields)
