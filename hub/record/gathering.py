"""What several applications tell of one thing in turn: an order by who asks and who does it, a report result by result.

Standard: RFC 7396 JSON Merge Patch, and what `ResourceChange` says beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hub.model.record_change import Json, ResourceChange, merged

_CHOICES = ("value", "effective", "occurrence", "collected", "performed", "onset")  # at most one element of each holds


def gathered(before: Json, change: ResourceChange, said: Json) -> Json:
    """`before` after a message that is newer than it."""
    if before.get("status") in change.status_stays:
        return filled(before, replace(change, status_wins=frozenset()), said)
    body = merged(before, said, change.defaults)
    if "identifier" in before and "identifier" in body:
        body["identifier"] = _put(before["identifier"], body["identifier"])
    for name, elements in change.removes.items():
        body[name] = [one for one in body.get(name, ()) if not any(_is_same(one, other) for other in elements)]
    for name, elements in change.adds.items():
        body[name] = _put(body.get(name, []), elements)
    return {name: value for name, value in body.items() if value not in ([], {})}


def filled(before: Json, change: ResourceChange, said: Json) -> Json:
    """`before` with what it lacks and an older message told: identifiers and listed elements add up, nothing else changes.

    But for the status, where what came after could not have followed what this message tells.
    """
    taken = {choice for name in before if (choice := _choice(name))}
    body = dict(before)
    if before.get("status") in change.status_wins:
        body = merged(body, {name: said[name] for name in ("status", "statusReason") if name in said})
    for name, value in merged({}, said).items():
        if name not in before and _choice(name) not in taken:
            body[name] = value
    for name, elements in {"identifier": said.get("identifier", []), **change.adds}.items():
        known = body.get(name, [])
        body[name] = [*known, *(one for one in elements if not any(_is_same(one, other) for other in known))]
    return {name: value for name, value in body.items() if value not in ([], {})}


def _put(known: list[Any], elements: list[Any]) -> list[Any]:
    """`known` with `elements` in the place of those that are the same thing, and the others behind."""
    found = list(known)
    for one in elements:
        place = next((n for n, other in enumerate(found) if _is_same(one, other)), None)
        if place is None:
            found.append(one)
        else:
            found[place] = one
    return found


def _is_same(one: Any, other: Any) -> bool:
    return one == other or (_about(one) is not None and _about(one) == _about(other))


def _about(element: Any) -> tuple[Any, ...] | None:
    """What a list's element is about: a number, who takes part, the code of an output."""
    if not isinstance(element, dict):
        return None
    if "actor" in element:
        element = element["actor"]
        if "identifier" not in element:
            return element.get("type"), element.get("display")
    if "identifier" in element:
        element = element["identifier"]
    if "system" in element and "value" in element:
        return element["system"], element["value"]
    kind = element.get("type")
    if isinstance(kind, dict):  # Task.output
        coding = (kind.get("coding") or [{}])[0]
        return coding.get("system"), coding.get("code"), kind.get("text")
    return None


def _choice(name: str) -> str:
    return next((choice for choice in _CHOICES if name.startswith(choice) and name[len(choice) : len(choice) + 1].isupper()), "")
