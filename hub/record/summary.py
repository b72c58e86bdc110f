"""The patient summary: an IPS document made of what the record holds now, for one reader.

Standard: HL7 FHIR IPS (International Patient Summary): Composition 60591-5 with its sections; FHIR R4 document Bundle.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from hub.model.record_change import Json
from hub.record.body_filters import codes
from hub.record.dates import date_of
from hub.record.definitions import values_at
from hub.record.lastn import lastn
from hub.record.masking import Viewer
from hub.record.paging import rows_of
from hub.record.questions import question
from hub.record.rendering import number_of
from hub.record.showing import seen, shown
from hub.store import Transaction

MOST = 50  # entries of one section
LOINC = "http://loinc.org"
_EMPTY = "http://terminology.hl7.org/CodeSystem/list-empty-reason"
_ABSENT = "http://hl7.org/fhir/uv/ips/CodeSystem/absent-unknown-uv-ips"
_NO_NAME = "sans libellé"
# Where a resource of each type says what it is; the others say it in `code`.
_NAMED = {
    "Immunization": ("vaccineCode",),
    "ImmunizationRecommendation": ("recommendation.vaccineCode", "recommendation.targetDisease"),
    "MedicationStatement": ("medicationCodeableConcept",),
    "MedicationRequest": ("medicationCodeableConcept",),
    "FamilyMemberHistory": ("relationship", "condition.code"),
    "DeviceUseStatement": ("device>type", "device>deviceName.name", "device.display"),
    "DeviceRequest": ("codeCodeableConcept", "codeReference"),
    "Goal": ("description",),
    "Appointment": ("serviceType", "description"),
}


@dataclass(frozen=True, slots=True)
class Take:
    """What a section takes of one type."""

    kind: str
    newest: bool
    category: str
    meant: Callable[[Json], bool]


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    code: str
    display: str
    empty: str
    takes: tuple[Take, ...]


def summary(tx: Transaction, patient: str, viewer: Viewer, *, base: str, document: str, at: str, author: str) -> Json | None:
    """The document Bundle; None when there is no such patient for this reader.

    `base` is the address before `/Type/id`, `document` the UUID of this document, `at` a FHIR instant.
    """
    number = number_of(patient)
    found = [one for one in seen(tx, [number], viewer) if one.type == "Patient"] if number is not None else []
    if not found:
        return None
    who = shown(tx, found, viewer)[0]
    held: dict[str, Json] = {}
    sections = []
    for section in _sections():
        entries, more = _entries(tx, section, patient, viewer)
        held |= {_address(one): one for one in entries}
        if entries or section.empty:
            sections.append(_section(section, entries, more=more))
    composition: Json = {
        "resourceType": "Composition",
        "id": document,
        "language": "fr-FR",
        "status": "final",
        "type": {"coding": [{"system": LOINC, "code": "60591-5", "display": "Patient summary Document"}]},
        "subject": {"reference": _address(who)},
        "date": at,
        "author": [{"display": author}],
        "title": "Résumé du dossier du patient",
        "section": sections,
    }
    return {
        "resourceType": "Bundle",
        "id": document,
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{document}"},
        "type": "document",
        "timestamp": at,
        "entry": [{"fullUrl": f"{base}/{_address(one)}", "resource": one} for one in (composition, who, *held.values())],
    }


def _address(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _entries(tx: Transaction, section: Section, patient: str, viewer: Viewer) -> tuple[list[Json], bool]:
    """The newest resources of a section, and whether there are more."""
    found: list[Json] = []
    for take in section.takes:
        whose = [("patient", patient)]
        if take.newest:
            found += lastn(tx, [*whose, ("category", take.category)], viewer).entries
            continue
        asked = question(tx, take.kind, whose, viewer)
        rows, _ = rows_of(tx, replace(asked, keep=(take.meant,)), count=MOST + 1)
        found += shown(tx, rows, viewer)
    return found[:MOST], len(found) > MOST


def _section(section: Section, entries: list[Json], *, more: bool) -> Json:
    lines = [_line(one) for one in entries] or ["Aucune information dans le dossier."]
    if more:
        lines.append(f"Seuls les {MOST} premiers figurent ici.")
    made: Json = {
        "title": section.title,
        "code": {"coding": [{"system": LOINC, "code": section.code, "display": section.display}]},
        "text": {"status": "generated", "div": _div(lines)},
    }
    if entries:
        made["entry"] = [{"reference": _address(one)} for one in entries]
    else:
        reasons = [{"system": _EMPTY, "code": "unavailable"}, {"system": _ABSENT, "code": section.empty}]
        made["emptyReason"] = {"coding": reasons}
    return made


def _div(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div xmlns="http://www.w3.org/1999/xhtml" lang="fr-FR"><ul>{items}</ul></div>'


def _line(resource: Json) -> str:
    """What a resource says, in one line of text."""
    paths = _NAMED.get(resource["resourceType"], ("code",))
    names = [text for path in paths for one in values_at(resource, path) if (text := _text(one))]
    value = next((text for name in resource if name.startswith("value") and (text := _text(resource[name]))), "")
    parts = [", ".join(names) or _NO_NAME, value]
    if date := date_of(resource):
        parts.append(date[:10])
    return " — ".join(_clean(part) for part in parts if part)


def _text(value: Any) -> str:
    """A code by its text, a quantity with its unit, a reference by its display."""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    if "value" in value:
        return f"{value.get('comparator', '')}{value['value']} {value.get('unit') or value.get('code') or ''}".strip()
    shown_codings = (one.get("display") or one.get("code") for one in value.get("coding", ()))
    return str(value.get("text") or value.get("display") or next(filter(None, shown_codings), ""))


def _clean(text: str) -> str:
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


# ---- the table of sections ----


@cache
def _sections() -> tuple[Section, ...]:
    read = tomllib.loads(resources.files("hub.record").joinpath("summary.toml").read_text("utf-8"))
    return tuple(
        Section(one["title"], one["code"], one["display"], one.get("empty", ""), tuple(map(_take, one["take"])))
        for one in read["section"]
    )


def _take(said: str) -> Take:
    kind, *conditions = said.split()
    newest = "newest" in conditions
    if newest:
        return Take(kind, True, conditions[-1].partition("=")[2].replace("|", ","), lambda _: True)
    checks = [_check(one) for one in conditions]
    return Take(kind, False, "", lambda body: all(check(body) for check in checks))


def _check(said: str) -> Callable[[Json], bool]:
    path, _, wanted = said.partition("=")
    out = path.endswith("!")
    meant = frozenset(wanted.split("|"))

    def check(body: Json) -> bool:
        found = {code for one in values_at(body, path.removesuffix("!")) for _, code in codes(one)} or {""}
        return out is not bool(found & meant)

    return check
