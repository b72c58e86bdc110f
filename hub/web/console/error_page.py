"""A refusal as a page: what happened and the next step."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hub.web.problems import Problem, problem_response
from hub.web.rendering import page, words_of


def render(request: Request, problem: Problem) -> Response:
    """Scripts get the problem as JSON, people a page; who is not signed in is led to the sign-in."""
    if "text/html" not in request.headers.get("accept", "*/*") and "*/*" not in request.headers.get("accept", "*/*"):
        return problem_response(request, problem)
    if problem.code == "SignInNeeded" and request.method == "GET":
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/console/sign-in?next={quote(wanted, safe='')}", 303, headers={"Cache-Control": "no-store"})
    words = words_of(request)
    sentence = words(f"problem.{problem.code}") if words.has(f"problem.{problem.code}") else problem.sentence
    return page(
        request, "problem.html", status=problem.status, headers=problem.headers, words=words, problem=problem, sentence=sentence
    )
