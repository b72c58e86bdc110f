"""Which messages are routed one after the other when several processes route: those of one patient share a shard."""

from __future__ import annotations

from zlib import crc32

from hub.formats.er7 import Message, unescape

SHARDS = 64
JOB = "route/"  # prefix of the leases
_LOCAL = (b"PI", b"PT", b"MR", b"")


def shard_of(message: Message | None, source: str, connection: str) -> int:
    """0 to 63, from the patient's local number (PID-3, type PI); without a patient, from the connection.

    So messages of one patient are routed in order of arrival, whatever source and connection they came by, as long as they
    carry the same local number. Its authority does not count: senders write it in many ways.
    """
    key = _patient(message) if message is not None else b""
    return crc32(key or f"{source}/{connection}".encode()) % SHARDS


def job_of(shard: int) -> str:
    """The name of the lease on a shard."""
    return f"{JOB}{shard}"


def _patient(message: Message) -> bytes:
    """CX-1 of PID-3: the lowest of the local numbers, so that their order does not matter; of all numbers if none is local."""
    segment = message.peek("PID")
    if segment is None:
        return b""
    marks, local, other = message.separators, list[bytes](), list[bytes]()
    for number in _cut(segment.raw(3), marks.repetition):
        parts = _cut(number, marks.component)
        value = unescape(parts[0], marks).strip()
        if value:
            (local if (parts[4].strip() if len(parts) > 4 else b"") in _LOCAL else other).append(value)
    return min(local or other, default=b"")


def _cut(text: bytes, separator: bytes) -> list[bytes]:
    return text.split(separator) if separator else [text]
