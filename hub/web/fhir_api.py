"""`/fhir`: the patient record, read and searched. Every read leaves an audit row before its answer leaves the hub.

Standard: FHIR R4 4.0.1 RESTful API (read, vread, history, search-type, capabilities), JSON only.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from hub.ledger.messages import body_of
from hub.model.record_change import Json
from hub.model.uids import uid_number
from hub.record import queries
from hub.record.queries import BinaryContent, Page
from hub.record.subsets import Shorten, shortened
from hub.store import Transaction
from hub.web.access import audit_entry, services_of, trail_of
from hub.web.bodies import form_fields
from hub.web.fhir_answers import (
    FHIR_JSON,
    Anybody,
    Kind,
    LogicalId,
    Reader,
    absent,
    asks_for_fhir_json,
    base_of,
    bundle,
    count_of,
    entries_of,
    etag_of,
    json_is_wanted,
    known,
    looked_up,
    patients_of,
    refuse_when_strict,
    resource_response,
    search_rows,
    viewer_of,
)
from hub.web.fhir_capability import SEARCH_PARAMETERS, capability_statement
from hub.web.problems import Problem, json_response
from hub.web.tokens import Principal

__all__ = ["router", "viewer_of"]

router = APIRouter(prefix="/fhir", tags=["patient record (FHIR R4)"])
_EXTENSIONS = {"application/pdf": "pdf", "text/xml": "xml", "application/xml": "xml", "text/plain": "txt"}


@router.get("/metadata", summary="What this server can do")
async def metadata(request: Request, caller: Anybody) -> Response:
    json_is_wanted(request)
    services = services_of(request)
    return resource_response(capability_statement(base_of(request), services.version, services.site.name))


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
        raise absent()
    await trail_of(request).note(
        audit_entry(
            caller, "read", f"Binary/{found.id}", patient_id=patient_id, document=f"DocumentReference/{found.document_id}"
        )
    )
    if asks_for_fhir_json(request):
        return resource_response(found.as_fhir(), request)
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
    return await _read(request, caller, known(kind), logical_id, "")


@router.get("/{type}/{id}/_history/{version}", summary="Read one version of a resource")
async def vread(request: Request, caller: Reader, kind: Kind, logical_id: LogicalId, version: str) -> Response:
    return await _read(request, caller, known(kind, history=True), logical_id, version)


async def _read(request: Request, caller: Principal, kind: str, logical_id: str, version: str) -> Response:
    json_is_wanted(request)
    viewer = viewer_of(caller)

    def look(tx: Transaction) -> tuple[Json | None, int | None, Shorten | None]:
        shorten = shortened([pair for pair in request.query_params.multi_items() if pair != ("_summary", "count")])
        if version:
            found = queries.vread(tx, kind, logical_id, version, viewer=viewer)
        else:
            found = queries.read(tx, kind, logical_id, viewer=viewer)
        return found, patients_of(tx, [found])[0] if found else None, shorten

    found, patient_id, shorten = await looked_up(request, look)
    if found is None:
        raise absent()
    target = f"{kind}/{found['id']}" + (f"/_history/{version}" if version else "")
    await trail_of(request).note(audit_entry(caller, "vread" if version else "read", target, patient_id=patient_id))
    return resource_response(found, request, shorten)


@router.get("/{type}/{id}/_history", summary="All versions of a resource, newest first")
async def history(request: Request, caller: Reader, kind: Kind, logical_id: LogicalId) -> Response:
    json_is_wanted(request)
    known(kind, history=True)
    asked, viewer = list(request.query_params.multi_items()), viewer_of(caller)
    unknown = sorted({name for name, _ in asked} - {"_count", "after", "_format", "_pretty"})
    refuse_when_strict(request, unknown)
    count, after = max(count_of(asked, 50), 1), request.query_params.get("after", "")

    def look(tx: Transaction) -> tuple[Page | None, list[int | None]]:
        found = queries.history(tx, kind, logical_id, viewer=viewer, count=count, after=after)
        return found, patients_of(tx, found.entries) if found else []

    found, patients = await looked_up(request, look)
    if found is None:
        raise absent()
    await trail_of(request).note(
        audit_entry(
            caller, "history", f"{kind}/{logical_id}", patient_id=patients[0] if patients else None, count=len(found.entries)
        )
    )
    base = base_of(request)
    entries = [
        {
            "fullUrl": f"{base}/{kind}/{one['id']}",
            "resource": one,
            "request": {"method": "POST" if one["meta"]["versionId"] == "1" else "PUT", "url": f"{kind}/{one['id']}"},
            "response": {"status": "200", "etag": etag_of(one), "lastModified": one["meta"]["lastUpdated"]},
        }
        for one in found.entries
    ]
    understood = [pair for pair in asked if pair[0] not in unknown]
    address = f"{base}/{kind}/{logical_id}/_history"
    return json_response(bundle("history", address, understood, found=found, entries=entries), media_type=FHIR_JSON)


@router.get("/{type}", summary="Search")
async def search(request: Request, caller: Reader, kind: Kind) -> Response:
    return await _search(request, caller, kind, list(request.query_params.multi_items()))


@router.post("/{type}/_search", summary="Search, with the parameters out of the address")
async def search_by_form(request: Request, caller: Reader, kind: Kind) -> Response:
    return await _search(request, caller, kind, [*request.query_params.multi_items(), *await form_fields(request)])


async def _search(request: Request, caller: Principal, kind: str, asked: Sequence[tuple[str, str]]) -> Response:
    json_is_wanted(request, dict(asked).get("_format", ""))
    if kind not in SEARCH_PARAMETERS:
        known(kind)
        raise Problem(400, "NotSearched", f"{kind} is read, not searched.", issue="not-supported")
    viewer, after = viewer_of(caller), dict(asked).get("after", "")
    count = count_of(asked, 20)

    def look(tx: Transaction) -> tuple[Page, list[int | None], Shorten | None]:
        shorten = shortened(asked)
        found = queries.search(tx, kind, asked, viewer=viewer, count=count, after=after)
        return found, patients_of(tx, [*found.entries, *found.included]), shorten

    found, patients, shorten = await looked_up(request, look)
    refuse_when_strict(request, found.unknown)
    read = [pair for pair in asked if pair[0] not in found.unknown]  # an unknown name may be anything, also a value
    await trail_of(request).note(*search_rows(caller, kind, read, found.total, patients))
    base = base_of(request)
    entries = entries_of(base, found, shorten)
    return json_response(bundle("searchset", f"{base}/{kind}", asked, found=found, entries=entries), media_type=FHIR_JSON)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
async def anything_else(request: Request, caller: Anybody, rest: str) -> Response:
    if request.method != "GET":
        raise Problem(405, "NotSupported", "This record is read here; it is written by messages.", headers={"Allow": "GET"})
    raise absent()
