"""ZFP: what the patient does for a living, as extensions of the Patient.

Standard: IHE PAM France 2.11.2, ZFP; INSEE, PCS 2003 (categories).
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.model.refusals import Finding
from mappings.hl7v2.extensions import Json, ours, pam_coding
from mappings.hl7v2.line import line

_FIELDS = ((1, "socio-professional-activity"), (2, "socio-professional-category"))


def zfp_extensions(message: Message) -> list[Json]:
    """ZFP-1 activity and ZFP-2 category."""
    zfp = line(message, "ZFP")
    if zfp is None:
        return []
    codings = [(name, pam_coding(f"ZFP-{n}", zfp.one(n))) for n, name in _FIELDS]
    return [{"url": ours(name), "valueCoding": coding} for name, coding in codings if coding is not None]


def zfp_findings(message: Message) -> tuple[Finding, ...]:
    """Codes that are none: an activity is one digit from 1 to 8, a category two from 11 to 86."""
    zfp = line(message, "ZFP")
    if zfp is None:
        return ()
    wrong = {1: zfp.text(1) not in ("", *"12345678"), 2: not _is_category(zfp.text(2))}
    return tuple(
        Finding("ZFP", f"ZFP-{n}", f"ZFP-{n}: a code that is in no table; kept as written") for n, bad in wrong.items() if bad
    )


def _is_category(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) == 2 and 11 <= int(text) <= 86)
