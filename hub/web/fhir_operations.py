"""Operations of `/fhir`: all of a patient as a stream, the patient summary, the newest result of each analysis.

Standard: FHIR R4 Patient/$everything, Observation/$lastn; HL7 IPS Patient/$summary.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hub.model.record_change import Json
from hub.model.uids import uid_number
from hub.record.everything import Everything, Slice, everything, slice_of
from hub.record.instants import instant
from hub.record.lastn import lastn
from hub.record.page import Page
from hub.record.subsets import Shorten, shortened
from hub.record.summary import summary
from hub.store import Transaction
from hub.web.access import audit_entry, services_of, trail_of
from hub.web.fhir_answers import (
    FHIR_JSON,
    FHIR_NDJSON,
    LogicalId,
    Reader,
    absent,
    base_of,
    bundle,
    count_of,
    entries_of,
    json_is_wanted,
    links,
    looked_up,
    ndjson_is_wanted,
    patients_of,
    refuse_when_strict,
    search_rows,
    viewer_of,
)
from hub.web.problems import json_response

router = APIRouter(prefix="/fhir", tags=["patient record (FHIR R4)"])
FIRST_SLICE, SLICE = 20, 200  # resources of one read: the first one is small, so that it is on its way soon


@router.get("/Patient/{id}/$everything", summary="All of one patient, streamed")
async def patient_everything(request: Request, caller: Reader, logical_id: LogicalId) -> Response:
    if not (lines := ndjson_is_wanted(request)):
        json_is_wanted(request)
    asked, viewer = list(request.query_params.multi_items()), viewer_of(caller)
    count, after = count_of(asked, 0), request.query_params.get("after", "")
    shorten = await _shorten(request, asked)

    def look(tx: Transaction) -> tuple[Everything, Slice] | None:
        wanted = everything(tx, logical_id, asked, viewer)
        if wanted is None:
            return None
        return wanted, slice_of(tx, wanted, viewer, count=min(FIRST_SLICE, count or FIRST_SLICE), after=after)

    found = await looked_up(request, look)
    if found is None:
        raise absent()
    wanted, first = found
    refuse_when_strict(request, wanted.unknown)
    names = sorted({name for name, _ in asked if name not in wanted.unknown})
    await trail_of(request).note(
        audit_entry(caller, "everything", f"Patient/{logical_id}", patient_id=wanted.patients[0], parameters=names)
    )

    async def onward(cursor: str, most: int) -> Slice:
        sliced: Slice = await services_of(request).store.read(lambda tx: slice_of(tx, wanted, viewer, count=most, after=cursor))
        return sliced

    slices = _slices(first, onward, count)
    headers = {"Cache-Control": "no-store"}
    if lines:
        return StreamingResponse(_as_lines(slices, shorten), media_type=FHIR_NDJSON, headers=headers)
    understood = [(name, value) for name, value in asked if name not in wanted.unknown]
    address = f"{base_of(request)}/Patient/{logical_id}/$everything"
    body = _as_bundle(slices, base_of(request), shorten, lambda cursor: links(address, understood, cursor))
    return StreamingResponse(body, media_type=FHIR_JSON, headers=headers)


async def _slices(first: Slice, onward: Callable[[str, int], Any], count: int) -> AsyncIterator[Slice]:
    """The slices one after the other; with a count, as many as make a page."""
    given, one = 0, first
    while True:
        yield one
        given += len(one.entries)
        if one.after is None or (count and given >= count):
            return
        one = await onward(one.after, min(SLICE, count - given) if count else SLICE)


async def _as_lines(slices: AsyncIterator[Slice], shorten: Shorten | None) -> AsyncIterator[bytes]:
    async for one in slices:
        yield b"".join(orjson.dumps(shorten(entry) if shorten else entry) + b"\n" for entry in one.entries)


async def _as_bundle(
    slices: AsyncIterator[Slice], base: str, shorten: Shorten | None, links_to: Callable[[str | None], list[dict[str, str]]]
) -> AsyncIterator[bytes]:
    """A Bundle written as its entries come; its links stand at the end, where it is known whether there is more."""
    yield b'{"resourceType":"Bundle","type":"searchset"'
    opening, after = b',"entry":[', None
    async for one in slices:
        after = one.after
        for entry in entries_of(base, Page(one.entries), shorten):
            yield opening + orjson.dumps(entry)
            opening = b","
    ending = b"" if opening != b"," else b"]"
    yield ending + b',"link":' + orjson.dumps(links_to(after)) + b"}"


@router.get("/Patient/{id}/$summary", summary="The patient summary, an IPS document")
async def patient_summary(request: Request, caller: Reader, logical_id: LogicalId) -> Response:
    json_is_wanted(request)
    services, viewer = services_of(request), viewer_of(caller)
    unknown = sorted({name for name, _ in request.query_params.multi_items()} - {"_format", "_pretty", "profile"})
    refuse_when_strict(request, unknown)
    document = str(uuid.uuid4())
    at = instant(int(datetime.now(UTC).timestamp() * 1_000_000))

    def look(tx: Transaction) -> Json | None:
        author = services.site.name or "Vaguemestre"
        return summary(tx, logical_id, viewer, base=base_of(request), document=document, at=at, author=author)

    found = await looked_up(request, look)
    if found is None:
        raise absent()
    who = uid_number(found["entry"][1]["resource"]["id"])
    await trail_of(request).note(
        audit_entry(caller, "summary", f"Patient/{logical_id}", patient_id=who, count=len(found["entry"]) - 2)
    )
    return json_response(found, media_type=FHIR_JSON)


@router.get("/Observation/$lastn", summary="The newest observations of each code of one patient")
async def observation_lastn(request: Request, caller: Reader) -> Response:
    json_is_wanted(request)
    asked, viewer = list(request.query_params.multi_items()), viewer_of(caller)
    shorten = await _shorten(request, asked)

    def look(tx: Transaction) -> tuple[Page, list[int | None]]:
        found = lastn(tx, asked, viewer)
        return found, patients_of(tx, found.entries)

    found, patients = await looked_up(request, look)
    refuse_when_strict(request, found.unknown)
    understood = [pair for pair in asked if pair[0] not in found.unknown]
    await trail_of(request).note(*search_rows(caller, "Observation/$lastn", understood, None, patients))
    base = base_of(request)
    entries = entries_of(base, found, shorten)
    return json_response(
        bundle("searchset", f"{base}/Observation/$lastn", asked, found=found, entries=entries), media_type=FHIR_JSON
    )


async def _shorten(request: Request, asked: list[tuple[str, str]]) -> Shorten | None:
    shorten: Shorten | None = await looked_up(request, lambda _: shortened(asked))
    return shorten
