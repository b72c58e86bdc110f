"""What a caller is told when something is refused, in the format of the path.

Standard: RFC 9457 (problem details) for everything but `/fhir`; FHIR R4 OperationOutcome there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

_TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Not possible in this state",
    410: "Gone",
    413: "Too large",
    415: "Unsupported media type",
    429: "Too many failed attempts",
    500: "The hub failed",
    503: "Not available now",
}
_ISSUES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    410: "deleted",
    413: "too-long",
    415: "not-supported",
    429: "throttled",
    500: "exception",
    503: "transient",
}


class Problem(Exception):
    """A refusal: HTTP status, a code for machines, a sentence without any value of the request or of a message."""

    def __init__(
        self, status: int, code: str, sentence: str, *, headers: Mapping[str, str] | None = None, issue: str = ""
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.sentence = status, code, sentence
        self.headers = dict(headers or {})
        self.issue = issue or _ISSUES.get(status, "processing")


def json_response(
    content: Any, status: int = 200, *, media_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON that no cache keeps."""
    return Response(
        orjson.dumps(content), status, media_type=media_type, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def operation_outcome(issue: str, code: str, sentence: str) -> dict[str, Any]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": issue, "details": {"text": code}, "diagnostics": sentence}],
    }


def problem_response(request: Request, problem: Problem) -> Response:
    """The refusal as an OperationOutcome under `/fhir`, as problem details elsewhere."""
    if request.url.path == "/fhir" or request.url.path.startswith("/fhir/"):
        outcome = operation_outcome(problem.issue, problem.code, problem.sentence)
        return json_response(outcome, problem.status, media_type="application/fhir+json", headers=problem.headers)
    body = {
        "type": "about:blank",
        "title": _TITLES.get(problem.status, "Refused"),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.sentence,
    }
    return json_response(body, problem.status, media_type="application/problem+json", headers=problem.headers)
