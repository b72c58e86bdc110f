"""ZFS: legal modes of psychiatric care, each a Consent of its own that later messages change or cancel.

Standard: IHE PAM France 2.11.2, ZFS; ATIH, RIM-P; code de la santé publique L3212-1, L3213-1.
"""

from __future__ import annotations

from hub.formats.er7 import Message
from hub.formats.ts import parse_ts
from hub.model.record_change import MovementAction, ResourceChange
from hub.model.refusals import Finding
from hub.model.site import Site
from mappings.hl7v2.cx import ei_system
from mappings.hl7v2.extensions import Json, ours, pam_coding, pam_system
from mappings.hl7v2.line import Line, lines
from mappings.hl7v2.message_times import event_time, ts_finding

_ACTIONS = frozenset(MovementAction)
_SCOPE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "treatment"}]}
_CATEGORY = {"coding": [{"system": pam_system("consent"), "code": "legal-mode"}]}
_DEFAULTS = {"status": "active"}


def zfs_legal_modes(message: Message, site: Site) -> tuple[ResourceChange, ...]:
    """A Consent for each ZFS that has a number."""
    every = lines(message, "ZFS")
    made = event_time(message, site) if every else 0
    return tuple(
        ResourceChange(
            "Consent", f"{ei_system(zfs.one(2), site)}|{zfs.text(2)}|legal-mode", _body(zfs, site), _path(n), made, _DEFAULTS
        )
        for n, zfs in enumerate(every, 1)
        if zfs.text(2)
    )


def zfs_findings(message: Message, site: Site) -> tuple[Finding, ...]:
    """Legal modes without a number, which are not filed; actions that are none; times that are none."""
    found: list[Finding] = []
    for n, zfs in enumerate(lines(message, "ZFS"), 1):
        at = _path(n)
        if not zfs.text(2):
            found.append(Finding("ZFS_ID", f"{at}-2", f"{at}-2: no number, so the legal mode is not filed"))
        if zfs.text(5).upper() not in _ACTIONS:
            found.append(Finding("ZFS_ACTION", f"{at}-5", f"{at}-5: neither INSERT, UPDATE nor CANCEL; read as INSERT"))
        times = (ts_finding(f"{at}-{field}", parse_ts(zfs.text(field), site.timezone)) for field in (3, 4))
        found += [told for told in times if told is not None]
    return tuple(found)


def _path(n: int) -> str:
    return "ZFS" if n == 1 else f"ZFS[{n}]"


def _body(zfs: Line, site: Site) -> Json:
    """ZFS-3, 4 from and to; 6 mode; 7 its RIM-P code; 8 comment. A cancelled one is entered in error."""
    action, end = zfs.text(5).upper(), parse_ts(zfs.text(4), site.timezone).fhir_datetime()
    body: Json = {
        "identifier": [{"system": ei_system(zfs.one(2), site), "value": zfs.text(2)}],
        "scope": _SCOPE,
        "category": [_CATEGORY],
        "policyRule": {"text": "Soins psychiatriques : mode légal"},
        "status": "entered-in-error" if action == MovementAction.CANCEL else "inactive" if end else "active",
    }
    provision: Json = {}
    period = {"start": parse_ts(zfs.text(3), site.timezone).fhir_datetime(), "end": end}
    if any(period.values()):
        provision["period"] = {name: text for name, text in period.items() if text}
    codings = [coding for n in (6, 7) if (coding := pam_coding(f"ZFS-{n}", zfs.one(n)))]
    if codings:
        provision["code"] = [{"coding": codings}]
    if provision:
        body["provision"] = provision
    if comment := zfs.text(8):
        body["extension"] = [{"url": ours("legal-mode-comment"), "valueString": comment}]
    return body
