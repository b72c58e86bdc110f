"""What the routes of `/fhir` share: who reads, how a Bundle and a resource are answered, what is refused and audited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from hub.ledger.audit import AuditEntry
from hub.model.record_change import Json
from hub.model.uids import uid_number
from hub.record import queries
from hub.record.page import Page, SearchRefused
from hub.record.queries import Viewer
from hub.record.rendering import patient_in
from hub.record.subsets import Shorten
from hub.store import Transaction
from hub.web.access import audit_entry, needs, services_of
from hub.web.fhir_capability import TYPES
from hub.web.problems import Problem, json_response, operation_outcome
from hub.web.tokens import Principal, Role

Reader = Annotated[Principal, needs(Role.PROFESSIONAL)]
Anybody = Annotated[Principal, needs(*Role)]
Kind = Annotated[str, Path(alias="type", description="Resource type")]
LogicalId = Annotated[str, Path(alias="id", description="Logical id")]

FHIR_JSON, FHIR_NDJSON = "application/fhir+json", "application/fhir+ndjson"
_JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json", "json", "application/*", "*/*"})
_NDJSON_TYPES = frozenset({FHIR_NDJSON, "application/ndjson", "application/x-ndjson", "ndjson"})


def viewer_of(caller: Principal) -> Viewer:
    """The record's reader behind a caller: who wrote a masked document, or works where it was written, sees it."""
    return Viewer(role=caller.role.value, rpps=caller.rpps, finess=caller.finess)


async def looked_up(request: Request, job: Any) -> Any:
    """What a read of the record gives.

    Raises:
        Problem: 400 when the search is refused.
    """
    try:
        return await services_of(request).store.read(job)
    except SearchRefused as refused:
        raise refusal(refused) from None


def refusal(refused: SearchRefused) -> Problem:
    return Problem(400, "SearchRefused", f"{refused.parameter}: {refused.why}.", issue="value")


# ---- what was asked ------------------------------------------------------------------------------------------------


def base_of(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/fhir"


def known(kind: str, *, history: bool = False) -> str:
    resource = TYPES.get(kind)
    if resource is None:
        raise Problem(404, "TypeNotKept", f"This record keeps {', '.join(TYPES)}.", issue="not-supported")
    if history and not resource.versioned:
        raise Problem(404, "NotVersioned", f"{kind} has no history.", issue="not-supported")
    return kind


def absent() -> Problem:
    return Problem(404, "NotFound", "There is no such resource for this reader.")


def count_of(asked: Sequence[tuple[str, str]], default: int) -> int:
    text = dict(asked).get("_count", "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem(400, "SearchRefused", "_count: a whole number.", issue="value")
    return min(int(text), queries.MAX_COUNT)


def refuse_when_strict(request: Request, unknown: Sequence[str]) -> None:
    if unknown and "handling=strict" in request.headers.get("prefer", "").replace(" ", "").lower():
        names = ", ".join(name for name in unknown if name.isprintable() and len(name) < 60)
        raise Problem(400, "UnknownParameter", f"Unknown parameter: {names}.", issue="not-supported")


def json_is_wanted(request: Request, asked_format: str = "") -> None:
    """JSON is the one format.

    Raises:
        Problem: 406 when only others are taken.
    """
    wanted = asked_format or request.query_params.get("_format", "") or request.headers.get("accept", "") or "*/*"
    if not _media_types(wanted) & _JSON_TYPES:
        raise Problem(406, "JsonOnly", f"This server answers {FHIR_JSON}.")


def ndjson_is_wanted(request: Request) -> bool:
    """Whether one resource a line is asked for, where that is possible."""
    wanted = request.query_params.get("_format", "") or request.headers.get("accept", "")
    return bool(_media_types(wanted) & _NDJSON_TYPES)


def asks_for_fhir_json(request: Request) -> bool:
    asked = request.query_params.get("_format", "") or request.headers.get("accept", "")
    return bool(_media_types(asked) & {FHIR_JSON, "application/json", "json"})


def _media_types(text: str) -> set[str]:
    """The media types of an Accept header or `_format`, where a plus sign may have come as a blank."""
    return {part.split(";")[0].strip().lower().replace(" ", "+") for part in text.split(",")}


# ---- what is answered ----------------------------------------------------------------------------------------------


def etag_of(resource: Mapping[str, Any]) -> str:
    return f'W/"{resource["meta"]["versionId"]}"'


def resource_response(resource: Mapping[str, Any], request: Request | None = None, shorten: Shorten | None = None) -> Response:
    """One resource with its version in ETag; 304 when the reader holds that version.

    Raises:
        Problem: 412 when If-Match names another version.
    """
    headers: dict[str, str] = {}
    about = resource.get("meta", {})
    if "versionId" in about:
        headers["ETag"] = etag_of(resource)
    if "lastUpdated" in about:
        headers["Last-Modified"] = format_datetime(datetime.fromisoformat(about["lastUpdated"]), usegmt=False)
    if request is not None and "ETag" in headers:
        tag = headers["ETag"].removeprefix("W/")
        if (wanted := _tags(request, "if-match")) and not wanted & {tag, "*"}:
            raise Problem(412, "VersionChanged", "The resource has another version than If-Match names.", issue="conflict")
        if _tags(request, "if-none-match") & {tag, "*"}:
            return Response(status_code=304, headers=headers | {"Cache-Control": "no-store"})
    return json_response(shorten(dict(resource)) if shorten else resource, media_type=FHIR_JSON, headers=headers)


def _tags(request: Request, header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in request.headers.get(header, "").split(",") if tag.strip()}


def entries_of(base: str, page: Page, shorten: Shorten | None = None) -> list[dict[str, Any]]:
    """The entries of a searchset: what was found, what comes along, and a word when not all of that does."""
    short = shorten or (lambda one: one)
    found = [_entry(base, one, short(one), "match") for one in page.entries]
    found += [_entry(base, one, one, "include") for one in page.included]
    if page.more_included:
        outcome = operation_outcome(
            "too-costly", "MoreIncluded", "More is included than one page holds: ask for a smaller _count."
        )
        outcome["issue"][0]["severity"] = "warning"
        found.append({"resource": outcome, "search": {"mode": "outcome"}})
    return found


def _entry(base: str, one: Json, resource: Json, mode: str) -> dict[str, Any]:
    return {"fullUrl": f"{base}/{one['resourceType']}/{one['id']}", "resource": resource, "search": {"mode": mode}}


def bundle(
    kind: str, address: str, asked: Sequence[tuple[str, str]], *, found: Page, entries: list[dict[str, Any]]
) -> dict[str, Any]:
    """A Bundle with its links; the self link holds what was understood."""
    understood = [(name, value) for name, value in asked if name not in found.unknown]
    made: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if found.total is not None:
        made["total"] = found.total
    made["link"] = links(address, understood, found.after)
    if entries:
        made["entry"] = entries
    return made


def links(address: str, understood: Sequence[tuple[str, str]], after: str | None) -> list[dict[str, str]]:
    found = [{"relation": "self", "url": _address(address, understood)}]
    if after is not None:
        onward = [(name, value) for name, value in understood if name != "after"]
        found.append({"relation": "next", "url": _address(address, [*onward, ("after", after)])})
    return found


def _address(address: str, asked: Sequence[tuple[str, str]]) -> str:
    return address + (f"?{urlencode(asked)}" if asked else "")


# ---- what is audited -----------------------------------------------------------------------------------------------


def search_rows(
    caller: Principal, kind: str, asked: Sequence[tuple[str, str]], counted: int | None, patients: Sequence[int | None]
) -> list[AuditEntry]:
    """One audit row for each patient that the answer shows, one in all when it shows none. Parameter names, no values."""
    names = sorted({name for name, _ in asked})
    shown = Counter(patients)
    total = {} if counted is None else {"total": counted}
    return [
        audit_entry(caller, "search", kind, patient_id=patient, parameters=names, count=n, **total)
        for patient, n in (shown or Counter[int | None]({None: 0})).items()
    ]


def patients_of(tx: Transaction, resources: Sequence[Json]) -> list[int | None]:
    """The number of the patient that each resource is about; Provenance is about the patient of its target."""
    targets = {uid_number(one["id"].partition(".")[0]) for one in resources if one["resourceType"] == "Provenance"}
    owners: dict[int, int | None] = {}
    if targets:
        owners.update(tx.rows_in("SELECT id, patient_id FROM resource WHERE id IN ({keys})", sorted(targets)))
    return [
        owners.get(uid_number(one["id"].partition(".")[0])) if one["resourceType"] == "Provenance" else patient_in(one)
        for one in resources
    ]
