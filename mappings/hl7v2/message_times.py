"""When a message was made, and what is worth telling about a time stamp."""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.formats.ts import Ts, parse_ts
from hub.model.refusals import Finding
from hub.model.site import Site

_TIME = "@time"  # under which a message's views hold its time
_SENTENCES = {
    "TS_INVALID": "not a time stamp; read as empty",
    "TS_AMBIGUOUS": "an hour that the autumn change doubles; read as the first one",
    "TS_SKIPPED": "an hour that the spring change leaves out; read as one hour later",
}


def message_time(message: Message, site: Site) -> Ts:
    """MSH-7, else EVN-2; read once a message."""
    known = message.views.get(_TIME)
    if isinstance(known, Ts):
        return known
    made = parse_ts(message.text("MSH", 7), site.timezone)
    if made.instant is None:
        made = parse_ts(message.text("EVN", 2), site.timezone)
    message.views[_TIME] = made
    return made


def event_time(message: Message, site: Site) -> int:
    """What orders this message among others of its patient, in UTC microseconds; 0 when unknown."""
    return message_time(message, site).micros


def ts_finding(at: str, ts: Ts) -> Finding | None:
    """What is worth telling about a time stamp, if anything."""
    code = ts.problem
    return Finding(code, at, f"{at}: {_SENTENCES[code]}") if code else None
