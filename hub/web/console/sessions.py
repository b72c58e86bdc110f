"""Who is signed in to the console. Sessions live in memory: a restart signs everybody out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from hub.web import tokens
from hub.web.access import services_of
from hub.web.bodies import form_fields
from hub.web.problems import Problem
from hub.web.tokens import Principal, Role

IDLE_S, WHOLE_S, REVEAL_S = 4 * 3600.0, 12 * 3600.0, 600.0


@dataclass(slots=True)
class Session:
    """One browser. `revealed` says until when a message's values may be shown; `open_forms` are acts not yet sent."""

    principal: Principal
    csrf: str
    since: float
    used: float
    revealed: dict[int, float] = field(default_factory=dict)
    open_forms: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def new_form(self) -> str:
        """A key for one form: the same form sent twice acts once."""
        key = secrets.token_urlsafe(12)
        self.open_forms[key] = None
        while len(self.open_forms) > 200:
            self.open_forms.popitem(last=False)
        return key

    def take_form(self, key: str) -> bool:
        """Whether this form was shown and not sent before."""
        return self.open_forms.pop(key, self) is None


class Sessions:
    def __init__(self, *, clock: Callable[[], float] = time.monotonic, at_most: int = 2_000) -> None:
        self._clock, self._at_most = clock, at_most
        self._open: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, principal: Principal) -> str:
        """Begin a session; the secret that the cookie carries."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        self._open[_digest(secret)] = Session(principal, secrets.token_urlsafe(24), now, now)
        while len(self._open) > self._at_most:
            self._open.popitem(last=False)
        return secret

    def find(self, secret: str) -> Session | None:
        key, now = _digest(secret), self._clock()
        session = self._open.get(key)
        if session is None:
            return None
        if now - session.used > IDLE_S or now - session.since > WHOLE_S:
            del self._open[key]
            return None
        session.used = now
        self._open.move_to_end(key)
        return session

    def close(self, secret: str) -> None:
        self._open.pop(_digest(secret), None)

    def reveal(self, session: Session, message_id: int) -> None:
        """Show this message's values to this session for ten minutes."""
        now = self._clock()
        session.revealed = {number: until for number, until in session.revealed.items() if until > now}
        session.revealed[message_id] = now + REVEAL_S

    def minutes_revealed(self, session: Session, message_id: int) -> int:
        """Minutes left in which the values may be shown; 0 when they may not."""
        left = session.revealed.get(message_id, 0.0) - self._clock()
        return 0 if session.principal.masked or left <= 0 else int(left // 60) + 1


def sessions_of(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


async def session_of(request: Request) -> Session | None:
    """The session behind the cookie, as long as the token it began with holds."""
    secret = request.cookies.get(cookie_name(request), "")
    session = sessions_of(request).find(secret) if secret else None
    if session is None:
        return None
    token_id = session.principal.token_id
    if token_id and not await services_of(request).store.read(lambda tx: tokens.is_valid(tx, token_id)):
        sessions_of(request).close(secret)
        return None
    return session


class NeedsSession:
    """A dependency: the session, when its role is one of `roles`."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Session:
        session = await session_of(request)
        if session is None:
            raise Problem(401, "SignInNeeded", "Sign in first.")
        if session.principal.role not in self.roles:
            raise Problem(403, "RoleNotAllowed", f"This page needs the role {' or '.join(sorted(self.roles))}.")
        return session


def needs_session(*roles: Role) -> Any:
    return Depends(NeedsSession(*roles))


async def checked_form(request: Request, session: Session) -> dict[str, str]:
    """The fields of a form that this session's own page sent.

    Raises:
        Problem: 403 when the CSRF token is missing or another's.
    """
    from_here(request)
    fields = dict(await form_fields(request))
    verify_form(session, fields.get("csrf", ""))
    return fields


def verify_form(session: Session, csrf: str) -> None:
    if not hmac.compare_digest(csrf.encode(), session.csrf.encode()):
        raise Problem(403, "WrongForm", "This form does not come from your session; open the page again.")


def from_here(request: Request) -> None:
    """Refuse what another site made the browser send. Hosts are compared, not schemes: a proxy may end TLS."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        from_elsewhere = site not in ("same-origin", "none")
    else:
        from_elsewhere = origin is not None and origin.partition("://")[2] != request.url.netloc
    if from_elsewhere:
        raise Problem(403, "OtherSite", "This request comes from another site.")


def cookie_name(request: Request) -> str:
    """One cookie for each port: browsers share cookies between the ports of a machine."""
    return f"vgm_session_{request.url.port or request.url.scheme}"


def set_cookie(request: Request, response: Response, secret: str) -> None:
    response.set_cookie(
        cookie_name(request),
        secret,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
        max_age=int(WHOLE_S),
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
