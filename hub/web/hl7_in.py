"""HL7 v2 over HTTP: one message in ER7 or XML, a batch, or a bare CDA; the answer is in the same form (XML for a CDA)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from hub.formats.er7 import acknowledgement, read
from hub.formats.er7.batch import messages, shape_of, write_batch
from hub.formats.er7.of_cda import er7_of_document
from hub.formats.er7.xml import xml_of_er7
from hub.model.ports import Answer, Origin
from hub.model.refusals import Unreadable
from hub.web.access import peer_of, services_of
from hub.web.bodies import limited_body
from hub.web.problems import Problem
from hub.web.tokens import Principal

T = TypeVar("T")

ER7, XML, CDA = "application/hl7-v2", "application/hl7-v2+xml", "application/hl7-cda+xml"
MESSAGES_AT_ONCE = 64  # of a batch, before their answers are waited for

_XML_TYPES = (XML, CDA, "x-application/hl7-v2+xml", "application/xml", "text/xml")
_BATCH = (b"FHS", b"BHS")
_ASIDE_BYTES = 64 << 10
_STATUS = {b"AA": 200, b"CA": 200, b"AE": 422, b"CE": 422, b"AR": 503, b"CR": 503}


async def answered(request: Request, caller: Principal) -> Response:
    """The acknowledgement of what was posted: 200, 422 or 503 for AA, AE or AR; of a batch 200 when all are AA.

    Raises:
        Problem: 400 for an empty body, 413 for one that is too large.
    """
    services = services_of(request)
    body = await limited_body(request, services.max_body_bytes)
    if not body:
        raise Problem(400, "EmptyBody", "The request body is the message: ER7 without MLLP framing, XML, or a CDA.")
    origin = Origin(caller.name, f"http/{caller.name}", peer_of(request))
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type in _XML_TYPES:
            made = await _aside(body, lambda: er7_of_document(body, max_bytes=services.max_body_bytes))
            answer = await services.submit_hl7(made, origin)
            return await _response(request, [answer], _as_xml(answer.body), ack_status(answer.body), XML)
        if body.lstrip(b"\xef\xbb\xbf\r\n").startswith(_BATCH):
            await _aside(body, lambda: shape_of([body]))
            return await _batch(request, body, origin)
    except Unreadable as refusal:
        told = acknowledgement(
            None, code="AE", control_id=_number(request), at=datetime.now(UTC), site=services.site, refusal=refusal
        )
        as_xml = media_type in _XML_TYPES
        return await _response(request, [], _as_xml(told) if as_xml else told, 422, XML if as_xml else ER7)
    answer = await services.submit_hl7(body, origin)
    return await _response(request, [answer], answer.body, ack_status(answer.body), ER7)


def ack_status(acknowledgement: bytes) -> int:
    """200, 422 or 503 for AA, AE or AR (CA, CE, CR); 200 when no acknowledgement is owed."""
    _, found_msa, rest = acknowledgement.partition(b"\rMSA|")
    return _STATUS.get(rest[:2], 503) if found_msa else 200 if not acknowledgement else 503


async def _batch(request: Request, body: bytes, origin: Origin) -> Response:
    """Every message of a batch, in order; from the first that cannot be kept now on, none: the batch is to come again."""
    services = services_of(request)
    answers: list[Answer] = []
    bodies = messages([body])
    while some := list(islice(bodies, MESSAGES_AT_ONCE)):
        answers += await asyncio.gather(*(services.submit_hl7(one, origin) for one in some))
        if any(ack_status(answer.body) == 503 for answer in answers):
            break
    status = max((ack_status(answer.body) for answer in answers), default=200)
    acknowledgements = [answer.body for answer in answers if answer.body]
    told = write_batch(acknowledgements, site=services.site, at=datetime.now(UTC), control_id=_number(request))
    return await _response(request, answers, told, status, ER7)


async def _response(request: Request, answers: list[Answer], body: bytes, status: int, media_type: str) -> Response:
    if await request.is_disconnected():
        for answer in answers:
            if answer.lost is not None:
                answer.lost()
    headers = {"Cache-Control": "no-store", **({"Retry-After": "5"} if status == 503 else {})}
    return Response(body, status, media_type=media_type, headers=headers)


async def _aside(body: bytes, deed: Callable[[], T]) -> T:
    """In a thread when it takes long: nobody else waits for it."""
    return await asyncio.to_thread(deed) if len(body) > _ASIDE_BYTES else deed()


def _as_xml(told: bytes) -> bytes:
    return xml_of_er7(read(told)) if told else b""


def _number(request: Request) -> str:
    return f"{services_of(request).store.next_id():016X}"
