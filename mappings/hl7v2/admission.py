"""The first look at any message: whether the hub takes messages of this kind at all, before its structure is asked.

Standard: HL7 v2.5.1 §2.15.9 (MSH), tables 0103, 0104, 0357; order of the checks as in the PFI decision table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hub.formats.er7 import Message
from hub.model.refusals import FieldMissing, Finding, NotSupported
from hub.model.site import Site

_VERSION = re.compile(r"2\.[1-8](\.[0-9])?")
_PROCESSING = {"production": frozenset({"P"}), "test": frozenset({"P", "T", "D"})}

Admit = Callable[[Message, Site], tuple[Finding, ...]]


def admission(types: Mapping[str, Mapping[str, Any]]) -> Admit:
    """The check, over the table of message types that the hub knows (`tables/message_types.toml`)."""
    events_of = {name: frozenset(row["events"]) if "events" in row else None for name, row in types.items()}

    def admit(message: Message, site: Site) -> tuple[Finding, ...]:
        """What is worth telling of a message whose header is in order.

        Raises:
            NotSupported: version (203), type (200), event (201) or processing id (202).
            FieldMissing: MSH-9, MSH-10 or MSH-11 is empty.
        """
        if not _VERSION.fullmatch(message.version):
            raise NotSupported(at="MSH-12", condition="203")
        kind, _, event = message.type.partition("^")
        if not kind:
            raise FieldMissing(at="MSH-9")
        if kind not in events_of:
            raise NotSupported(at="MSH-9.1", condition="200")
        events = events_of[kind]
        if events is not None and event not in events:
            raise NotSupported(at="MSH-9.2", condition="201")
        if not message.processing_id:
            raise FieldMissing(at="MSH-11")
        if message.processing_id not in _PROCESSING.get(site.environment, _PROCESSING["production"]):
            raise NotSupported(at="MSH-11", condition="202")
        if not message.control_id:
            raise FieldMissing(at="MSH-10")
        if message.charset_unknown:
            return (Finding("CHARSET_UNKNOWN", "MSH-18", "MSH-18: a charset we do not know; read as the configured one"),)
        return ()

    return admit
