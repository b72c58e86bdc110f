"""A site's own rewriting: local codes of one laboratory become LOINC on the way to one destination.

Only OBX-3 changes, every other byte stays as the laboratory wrote it. The local code moves to the alternate components, as
HL7 wants it, so the receiver still sees both.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from hub.formats.er7 import Message, escape, splice
from hub.model.site import Site

_TABLE: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_name("local_codes.toml").read_text(encoding="utf-8"))


def local_to_loinc(message: Message, site: Site) -> bytes:
    """The message with each known local code of OBX-3 as `LOINC^label^LN^local^label^L`; unknown ones untouched."""
    separators = message.separators
    changes: dict[tuple[str, int, int], bytes | str] = {}
    for obx in message.segments("OBX"):
        row = _TABLE.get(obx.text(3))
        if row is not None and obx.text(3, 3) in ("", "L", "LOCAL"):
            parts = (row["loinc"], row["label"], "LN", obx.text(3), obx.text(3, 2), "L")
            changes["OBX", 3, obx.occurrence] = separators.component.join(
                escape(part, separators, message.charset) for part in parts
            )
    return splice(message, changes) if changes else message.raw


REWRITES = {"local-to-loinc": local_to_loinc}
