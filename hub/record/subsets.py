"""Parts of a resource: `_summary` and `_elements`.

Standard: FHIR R4 search §3.1.1.5.8, §3.1.1.5.9; the tag SUBSETTED says that a resource is not whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources

import orjson

from hub.model.record_change import Json
from hub.record.page import SearchRefused

Shorten = Callable[[Json], Json]

SUMMARIES = frozenset({"true", "text", "data", "count", "false"})
_ALWAYS = frozenset({"resourceType", "id", "meta", "implicitRules"})
_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}
_MAX_ELEMENTS = 100


def _table() -> Mapping[str, Mapping[str, frozenset[str]]]:
    read = tomllib.loads(resources.files("hub.record").joinpath("subsets.toml").read_text("utf-8"))
    return {kind: {name: frozenset(said.split()) for name, said in parts.items()} for kind, parts in read.items()}


_TABLE = _table()


def shortened(params: Sequence[tuple[str, str]]) -> Shorten | None:
    """What to make of each resource that was searched or read; None: leave it whole.

    Raises:
        SearchRefused: a summary that FHIR does not know, both at once, or a summary of text with what is included.
    """
    summaries = [value for name, value in params if name == "_summary"]
    elements = [one.strip() for name, value in params if name == "_elements" for one in value.split(",") if one.strip()]
    if not set(summaries) <= SUMMARIES or len(set(summaries)) > 1:
        raise SearchRefused("_summary")
    summary = next(iter(summaries), "false")
    if len(elements) > _MAX_ELEMENTS or (elements and summary not in ("false", "count")):
        raise SearchRefused("_elements")
    if summary == "text" and any(name.partition(":")[0] in ("_include", "_revinclude") for name, _ in params):
        raise SearchRefused("_summary", "text is not combined with _include")
    if elements:
        return lambda resource: _only(resource, frozenset(elements), "required")
    if summary == "data":
        return lambda resource: _marked({name: value for name, value in resource.items() if name != "text"})
    if summary == "text":
        return lambda resource: _only(resource, frozenset({"text"}), "required")
    return (lambda resource: _only(resource, frozenset(), "required", "summary")) if summary == "true" else None


def _only(resource: Json, wanted: frozenset[str], *parts: str) -> Json:
    known = _TABLE.get(resource["resourceType"], {})
    kept = wanted.union(_ALWAYS, *(known.get(part, frozenset()) for part in parts))
    found = {name: value for name, value in resource.items() if name in kept or name.removeprefix("_") in kept}
    if "contained" in resource and b'"reference":"#' in orjson.dumps(found):
        found["contained"] = resource["contained"]  # what is shown refers to it
    return _marked(found)


def _marked(resource: Json) -> Json:
    meta = resource.get("meta", {})
    return {**resource, "meta": {**meta, "tag": [*meta.get("tag", ()), _SUBSETTED]}}
