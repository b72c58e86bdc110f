"""`/fhir`: the patient record, read and searched. Every read leaves an audit row before its answer leaves the hub.

Standard: FHIR R4 4.0.1 RESTful API (read, vread, history, search-type, capabilities), JSON only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from hub.ledger.audit import AuditEntry
from hub.ledger.messages import body_of
from hub.model.record_change import Json
from hub.model.uids import uid_number
from hub.record import queries
from hub.record.queries import BinaryContent, Page, SearchRefused, Viewer
from hub.record.rendering import patient_in
from hub.store import Transaction
from hub.web.access import audit_entry, needs, services_of, trail_of
from hub.web.bodies import form_fields
from hub.web.fhir_capability import TYPES, capability_statement
from hub.web.problems import Problem, json_response
from hub.web.tokens import Principal, Role

router = APIRouter(prefix="/fhir", tags=["patient record (FHIR R4)"])
Reader = Annotated[Principal, needs(Role.PROFESSIONAL)]
Anybody = Annotated[Principal, needs(*Role)]
Kind = Annotated[str, Path(alias="type", description="Resource type")]
LogicalId = Annotated[str, Path(alias="id", description="Logical id")]

FHIR_JSON = "application/fhir+json"
_JSON_TYPES = frozenset({FHIR_JSON, "application/json", "text/json", "json", "application/*", "*/*"})
_SEARCHED = frozenset(name for name, resource in TYPES.items() if resource.searched)
_EXTENSIONS = {"application/pdf": "pdf", "text/xml": "xml", "application/xml": "xml", "text/plain": "txt"}
_SUMMARIES = frozenset({"count", "false"})


@router.get("/metadata", summary="What this server can do")
async def metadata(request: Request, caller: Anybody) -> Response:
    _json_is_wanted(request)
    services = services_of(request)
    return _resource(capability_statement(_base(request), services.version, services.site.name))


@router.get("/Binary/{id}", summary="A document’s exact bytes, or the Binary resource when FHIR JSON is asked for")
async def read_binary(request: Request, caller: Reader, logical_id: LogicalId) -> Response:
    viewer = viewer_of(caller)

    def look(tx: Transaction) -> tuple[BinaryContent | None, int | None]:
        found = queries.read_binary(tx, logical_id, viewer=viewer, body_of=lambda message_id: bytes(body_of(tx, message_id)))
        row = tx.row("SELECT patient_id FROM resource WHERE id = ?", uid_number(found.document_id)) if found else None
        return found, row[0] if row else None

    try:
        found, patient_id = await services_of(request).store.read(look)
    except KeyError:
        raise Problem(410, "Pruned", "The message that held these bytes was pruned.") from None
    if found is None:
        raise _absent()
    await trail_of(request).note(
        audit_entry(
            caller, "read", f"Binary/{found.id}", patient_id=patient_id, document=f"DocumentReference/{found.document_id}"
        )
    )
    if _asks_for_fhir_json(request):
        return _resource(found.as_fhir(), request)
    as_shown = "inline" if found.content_type == "application/pdf" else "attachment"
    extension = _EXTENSIONS.get(found.content_type, "bin")
    return Response(
        found.data,
        headers={
            "Content-Type": found.content_type,
            "Content-Disposition": f'{as_shown}; filename="{found.id}.{extension}"',
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
            "ETag": 'W/"1"',
        },
    )


@router.get("/{type}/{id}", summary="Read one resource")
async def read(request: Request, caller: Reader, kind: Kind, logical_id: LogicalId) -> Response:
    return await _read(request, caller, _known(kind), logical_id, "")


@router.get("/{type}/{id}/_history/{version}", summary="Read one version of a resource")
async def vread(request: Request, caller: Reader, kind: Kind, logical_id: LogicalId, version: str) -> Response:
    return await _read(request, caller, _known(kind, history=True), logical_id, version)


async def _read(request: Request, caller: Principal, kind: str, logical_id: str, version: str) -> Response:
    _json_is_wanted(request)
    viewer = viewer_of(caller)

    def look(tx: Transaction) -> tuple[Json | None, int | None]:
        if version:
            found = queries.vread(tx, kind, logical_id, version, viewer=viewer)
        else:
            found = queries.read(tx, kind, logical_id, viewer=viewer)
        return found, patients_of(tx, [found])[0] if found else None

    found, patient_id = await services_of(request).store.read(look)
    if found is None:
        raise _absent()
    target = f"{kind}/{found['id']}" + (f"/_history/{version}" if version else "")
    await trail_of(request).note(audit_entry(caller, "vread" if version else "read", target, patient_id=patient_id))
    return _resource(found, request)


@router.get("/{type}/{id}/_history", summary="All versions of a resource, newest first")
async def history(request: Request, caller: Reader, kind: Kind, logical_id: LogicalId) -> Response:
    _json_is_wanted(request)
    _known(kind, history=True)
    asked, viewer = list(request.query_params.multi_items()), viewer_of(caller)
    unknown = sorted({name for name, _ in asked} - {"_count", "after", "_format", "_pretty"})
    _refuse_when_strict(request, unknown)
    count, after = max(_count(asked, 50), 1), request.query_params.get("after", "")

    def look(tx: Transaction) -> tuple[Page | None, list[int | None]]:
        found = queries.history(tx, kind, logical_id, viewer=viewer, count=count, after=after)
        return found, patients_of(tx, found.entries) if found else []

    found, patients = await _searched(request, look)
    if found is None:
        raise _absent()
    await trail_of(request).note(
        audit_entry(
            caller, "history", f"{kind}/{logical_id}", patient_id=patients[0] if patients else None, count=len(found.entries)
        )
    )
    base = _base(request)
    return json_response(
        _bundle(
            "history",
            f"{base}/{kind}/{logical_id}/_history",
            asked,
            unknown,
            found=found,
            entries=[
                {
                    "fullUrl": f"{base}/{kind}/{one['id']}",
                    "resource": one,
                    "request": {"method": "POST" if one["meta"]["versionId"] == "1" else "PUT", "url": f"{kind}/{one['id']}"},
                    "response": {"status": "200", "etag": _etag(one), "lastModified": one["meta"]["lastUpdated"]},
                }
                for one in found.entries
            ],
        ),
        media_type=FHIR_JSON,
    )


@router.get("/{type}", summary="Search")
async def search(request: Request, caller: Reader, kind: Kind) -> Response:
    return await _search(request, caller, kind, list(request.query_params.multi_items()))


@router.post("/{type}/_search", summary="Search, with the parameters out of the address")
async def search_by_form(request: Request, caller: Reader, kind: Kind) -> Response:
    return await _search(request, caller, kind, [*request.query_params.multi_items(), *await form_fields(request)])


async def _search(request: Request, caller: Principal, kind: str, asked: Sequence[tuple[str, str]]) -> Response:
    _json_is_wanted(request, dict(asked).get("_format", ""))
    if kind not in _SEARCHED:
        _known(kind)
        raise Problem(400, "NotSearched", f"{kind} is read, not searched.", issue="not-supported")
    viewer, after = viewer_of(caller), dict(asked).get("after", "")
    count = _count(asked, 20)

    def look(tx: Transaction) -> tuple[Page, list[int | None]]:
        found = queries.search(tx, kind, asked, viewer=viewer, count=count, after=after)
        return found, patients_of(tx, found.entries)

    found, patients = await _searched(request, look)
    unknown = sorted({*found.unknown, *(name for name, value in asked if name == "_summary" and value not in _SUMMARIES)})
    _refuse_when_strict(request, unknown)
    read = [pair for pair in asked if pair[0] not in found.unknown]  # an unknown name may be anything, also a value
    await trail_of(request).note(*_search_rows(caller, kind, read, found.total, patients))
    base = _base(request)
    return json_response(
        _bundle(
            "searchset",
            f"{base}/{kind}",
            asked,
            unknown,
            found=found,
            entries=[
                {"fullUrl": f"{base}/{kind}/{one['id']}", "resource": one, "search": {"mode": "match"}} for one in found.entries
            ],
        ),
        media_type=FHIR_JSON,
    )


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
async def anything_else(request: Request, caller: Anybody, rest: str) -> Response:
    if request.method != "GET":
        raise Problem(405, "NotSupported", "This record is read here; it is written by messages.", headers={"Allow": "GET"})
    raise _absent()


# ---- what the routes share -----------------------------------------------------------------------------------------


def viewer_of(caller: Principal) -> Viewer:
    """The record's reader behind a caller: who wrote a masked document, or works where it was written, sees it."""
    return Viewer(role=caller.role.value, rpps=caller.rpps, finess=caller.finess)


async def _searched(request: Request, job: Any) -> Any:
    try:
        return await services_of(request).store.read(job)
    except SearchRefused as refused:
        raise Problem(400, "SearchRefused", f"{refused.parameter}: not a value that this search takes.", issue="value") from None


def _search_rows(
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


def _bundle(
    kind: str,
    address: str,
    asked: Sequence[tuple[str, str]],
    unknown: Sequence[str],
    *,
    found: Page,
    entries: list[dict[str, Any]],
) -> dict[str, Any]:
    understood = [(name, value) for name, value in asked if name not in unknown]
    links = [{"relation": "self", "url": _address(address, understood)}]
    if found.after is not None:
        onward = [(name, value) for name, value in understood if name != "after"]
        links.append({"relation": "next", "url": _address(address, [*onward, ("after", found.after)])})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if found.total is not None:
        bundle["total"] = found.total
    bundle["link"] = links
    if entries:
        bundle["entry"] = entries
    return bundle


def _address(address: str, asked: Sequence[tuple[str, str]]) -> str:
    return address + (f"?{urlencode(asked)}" if asked else "")


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/fhir"


def _known(kind: str, *, history: bool = False) -> str:
    resource = TYPES.get(kind)
    if resource is None:
        raise Problem(404, "TypeNotKept", f"This record keeps {', '.join(TYPES)}.", issue="not-supported")
    if history and not resource.versioned:
        raise Problem(404, "NotVersioned", f"{kind} has no history.", issue="not-supported")
    return kind


def _absent() -> Problem:
    return Problem(404, "NotFound", "There is no such resource for this reader.")


def _count(asked: Sequence[tuple[str, str]], default: int) -> int:
    text = dict(asked).get("_count", "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem(400, "SearchRefused", "_count: a whole number.", issue="value")
    return min(int(text), queries.MAX_COUNT)


def _refuse_when_strict(request: Request, unknown: Sequence[str]) -> None:
    if unknown and "handling=strict" in request.headers.get("prefer", "").replace(" ", "").lower():
        names = ", ".join(name for name in unknown if name.isprintable() and len(name) < 60)
        raise Problem(400, "UnknownParameter", f"Unknown parameter: {names}.", issue="not-supported")


def _json_is_wanted(request: Request, asked_format: str = "") -> None:
    """JSON is the one format.

    Raises:
        Problem: 406 when only others are taken.
    """
    wanted = asked_format or request.query_params.get("_format", "") or request.headers.get("accept", "") or "*/*"
    if not _media_types(wanted) & _JSON_TYPES:
        raise Problem(406, "JsonOnly", f"This server answers {FHIR_JSON}.")


def _asks_for_fhir_json(request: Request) -> bool:
    asked = request.query_params.get("_format", "") or request.headers.get("accept", "")
    return bool(_media_types(asked) & {FHIR_JSON, "application/json", "json"})


def _media_types(text: str) -> set[str]:
    """The media types of an Accept header or `_format`, where a plus sign may have come as a blank."""
    return {part.split(";")[0].strip().lower().replace(" ", "+") for part in text.split(",")}


def _etag(resource: Mapping[str, Any]) -> str:
    return f'W/"{resource["meta"]["versionId"]}"'


def _resource(resource: Mapping[str, Any], request: Request | None = None) -> Response:
    """One resource with its version in ETag; 304 when the reader holds that version."""
    headers: dict[str, str] = {}
    about = resource.get("meta", {})
    if "versionId" in about:
        headers["ETag"] = _etag(resource)
    if "lastUpdated" in about:
        headers["Last-Modified"] = format_datetime(datetime.fromisoformat(about["lastUpdated"]), usegmt=False)
    if request is not None and "ETag" in headers:
        held = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if headers["ETag"].removeprefix("W/") in held or "*" in held:
            return Response(status_code=304, headers=headers | {"Cache-Control": "no-store"})
    return json_response(resource, media_type=FHIR_JSON, headers=headers)


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
