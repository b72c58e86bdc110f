"""Which messages are routed one after the other when several processes route: those of one patient share a shard."""

from __future__ import annotations

from zlib import crc32

from hub.formats.er7 import Message

SHARDS = 64
JOB = "route/"  # prefix of the leases
_LOCAL = (b"PI", b"PT", b"MR", b"")


def shard_of(message: Message | None, source: str, connection: str) -> int:
    """0 to 63, from the patient's first local number (PID-3, type PI) with its authority; without a patient, from the connection.

    So messages of one patient are routed in order of arrival, whatever source and connection they came by, as long as they
    carry the same local number.
    """
    key = _patient(message) if message is not None else b""
    return crc32(key or f"{source}/{connection}".encode()) % SHARDS


def job_of(shard: int) -> str:
    """The name of the lease on a shard."""
    return f"{JOB}{shard}"


def _patient(message: Message) -> bytes:
    """CX-1 and CX-4 of the first local number of PID-3, as they came."""
    segment = message.peek("PID")
    if segment is None:
        return b""
    marks, first = message.separators, b""
    for number in _cut(segment.raw(3), marks.repetition):
        parts = _cut(number, marks.component)
        kind = parts[4] if len(parts) > 4 else b""
        key = parts[0] + b"^" + (parts[3] if len(parts) > 3 else b"")
        if kind in _LOCAL and parts[0]:
            return key
        first = first or (key if parts[0] else b"")
    return first


def _cut(text: bytes, separator: bytes) -> list[bytes]:
    return text.split(separator) if separator else [text]
