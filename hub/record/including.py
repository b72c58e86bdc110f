"""What a page brings along: what its resources refer to (`_include`), and what refers to them (`_revinclude`).

Only what belongs to the same person and what the reader sees; `:iterate` is not done.
Standard: FHIR R4 search §3.1.1.5.4 (_include, _revinclude).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hub.model.record_change import Json
from hub.model.uids import uid_text
from hub.record.definitions import PARAMETERS, patient_names, values_at
from hub.record.filing import Stored
from hub.record.masking import Viewer
from hub.record.merging import roots_of
from hub.record.page import SearchRefused
from hub.record.provenance import search_provenance
from hub.record.referring import referring, target_of
from hub.record.rendering import number_of, patient_in
from hub.record.showing import seen, shown
from hub.store import Transaction

MAX_INCLUDED = 1000
_PROVENANCES = 20  # of one resource


@dataclass(frozen=True, slots=True)
class Include:
    """`_include=source:name[:target]`, or `_revinclude` when it is `reverse`."""

    source: str
    name: str
    target: str = ""
    reverse: bool = False


def includes_of(kind: str, params: Sequence[tuple[str, str]]) -> list[Include]:
    """What a search of `kind` brings along.

    Raises:
        SearchRefused: a modifier, or a reference that is not followed.
    """
    found = []
    for full_name, value in params:
        name, colon, _ = full_name.partition(":")
        if name not in ("_include", "_revinclude"):
            continue
        if colon:
            raise SearchRefused(name, "neither :iterate nor another modifier is supported; ask for the next step by itself")
        source, _, rest = value.partition(":")
        parameter, _, target = rest.partition(":")
        one = Include(source, parameter, target, name == "_revinclude")
        known = reverse_includes(kind) if one.reverse else forward_includes(kind)
        if f"{source}:{parameter}" not in known:
            raise SearchRefused(name, "not one of those that the CapabilityStatement names")
        found.append(one)
    return list(dict.fromkeys(found))


def forward_includes(kind: str) -> list[str]:
    """What `_include` takes in a search of this type."""
    if kind == "Provenance":
        return ["Provenance:target"]
    if kind not in PARAMETERS:
        return []
    named = [one.name for one in PARAMETERS[kind].values() if one.kind in ("reference", "link")]
    return [f"{kind}:{name}" for name in (*patient_names(kind), *named)]


def reverse_includes(kind: str) -> list[str]:
    """What `_revinclude` takes in a search of this type: whatever may refer to a patient's resource."""
    if kind not in PARAMETERS:
        return ["Provenance:target"] if kind == "Patient" else []
    named = [
        f"{source}:{one.name}" for source, all_of in PARAMETERS.items() for one in all_of.values() if one.kind == "reference"
    ]
    return [*named, "Provenance:target"]


def included(tx: Transaction, entries: Sequence[Json], includes: Sequence[Include], viewer: Viewer) -> tuple[list[Json], bool]:
    """The resources that come along, none twice and none of the entries; whether there were more than one page holds."""
    held = {(one["resourceType"], one["id"]) for one in entries}
    numbers: set[int] = set()
    found: list[Json] = []
    for one in includes:
        if one.reverse and one.source == "Provenance":
            found += _provenances(tx, entries, viewer)
        elif one.reverse:
            numbers |= set(_referring(tx, entries, one, viewer))
        else:
            numbers |= _referred(tx, entries, one)
    stored = [one for one in _seen_of(tx, numbers, includes, viewer) if (one.type, uid_text(one.id)) not in held]
    found = shown(tx, stored[: MAX_INCLUDED + 1], viewer) + found
    return found[:MAX_INCLUDED], len(found) > MAX_INCLUDED


def _seen_of(tx: Transaction, numbers: Iterable[int], includes: Sequence[Include], viewer: Viewer) -> list[Stored]:
    targets = {one.target for one in includes if not one.reverse}
    reverse = {one.source for one in includes if one.reverse}
    return [one for one in seen(tx, numbers, viewer) if "" in targets or one.type in targets or one.type in reverse]


def _referred(tx: Transaction, entries: Sequence[Json], asked: Include) -> set[int]:
    """The row numbers that these resources refer to; the same person's only."""
    if asked.name in ("patient", "subject") and asked.name not in PARAMETERS.get(asked.source, {}):
        return {number for one in entries if (number := patient_in(one)) is not None}
    paths = ("target",) if asked.source == "Provenance" else PARAMETERS[asked.source][asked.name].paths
    addresses = {
        str(value.get("reference", ""))
        for one in entries
        for path in paths
        for value in values_at(one, path)
        if isinstance(value, dict)
    }
    numbers = {number for text in addresses if (number := number_of(_logical_id(text))) is not None}
    if asked.source == "Provenance" or not numbers:
        return numbers
    owners: dict[int, int | None] = dict(tx.rows_in("SELECT id, patient_id FROM resource WHERE id IN ({keys})", sorted(numbers)))
    roots = roots_of(tx, {one for one in owners.values() if one is not None})
    whose = {patient_in(one) for one in entries}
    return {number for number, owner in owners.items() if roots.get(owner or 0, owner) in whose}


def _logical_id(address: str) -> str:
    parts = address.split("/")
    return parts[1] if len(parts) > 1 and not address.startswith("#") else ""


def _referring(tx: Transaction, entries: Sequence[Json], asked: Include, viewer: Viewer) -> list[int]:
    numbers = [number for one in entries if (number := number_of(one["id"])) is not None]
    targets = [target_of(one) for one in seen(tx, numbers, viewer)]
    return referring(tx, targets, [f"{asked.source}.{asked.name}"])


def _provenances(tx: Transaction, entries: Sequence[Json], viewer: Viewer) -> list[Json]:
    found: list[Json] = []
    for one in entries:
        target = f"{one['resourceType']}/{one['id']}"
        found += search_provenance(tx, [target], viewer=viewer, count=_PROVENANCES, after="").entries
    return found
