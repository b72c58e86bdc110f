"""Who may call what: a bearer token and a role on every path but the two health ones.

A path says `Annotated[Principal, needs(Role.OPERATOR)]`; `create_app` refuses to start with one that says nothing.
"""

from __future__ import annotations

from typing import Any

from fastapi import Depends
from starlette.requests import Request

from hub.ledger import audit
from hub.model import log
from hub.store.port import Store, Transaction
from hub.web import tokens
from hub.web.problems import Problem
from hub.web.services import Services
from hub.web.throttle import FailedSignIns
from hub.web.tokens import Principal, Role

_CHALLENGE = 'Bearer realm="vaguemestre"'


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def peer_of(request: Request) -> str:
    return request.client.host if request.client else ""


class NeedsRole:
    """A dependency: the caller, when the token is right and its role is one of `roles`."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Principal:
        principal = await authenticate(request)
        if principal.role not in self.roles:
            log.event("auth.forbidden", level="warning", token_name=principal.name, role=principal.role.value)
            raise Problem(403, "RoleNotAllowed", f"This path needs the role {' or '.join(sorted(self.roles))}.")
        return principal


def needs(*roles: Role) -> Any:
    return Depends(NeedsRole(*roles))


def is_open() -> Any:
    """Marks a path that anybody may call."""
    return Depends(nobody)


def nobody() -> None:
    """No caller is asked for."""


async def authenticate(request: Request) -> Principal:
    """The caller behind the bearer token.

    Raises:
        Problem: 401 without a right token, 429 when this peer failed too often.
    """
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented.strip():
        raise Problem(
            401,
            "TokenMissing",
            "Send a token: Authorization: Bearer vgm_… (vaguemestre token create makes one).",
            headers={"WWW-Authenticate": _CHALLENGE},
        )
    return await check_token(request, presented.strip())


async def check_token(request: Request, presented: str) -> Principal:
    """Who holds `presented`; a wrong one counts against the peer."""
    store = services_of(request).store
    principal = await store.read(lambda tx: tokens.find(tx, presented))
    if principal is not None:
        return principal
    refuse_failed(request)
    raise Problem(
        401,
        "TokenUnknown",
        "This token is unknown or was revoked.",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
    )


def refuse_failed(request: Request) -> None:
    """Count a failed authentication of this peer.

    Raises:
        Problem: 429 once there were too many.
    """
    failures: FailedSignIns = request.app.state.failures
    wait_s = failures.failed(peer_of(request))
    log.event("auth.failed", level="warning", peer=peer_of(request), limit=bool(wait_s))
    if wait_s:
        raise Problem(
            429,
            "TooManyFailures",
            f"Too many failed attempts from this address; wait {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )


class AuditTrail:
    """Writes audit rows in groups and returns when they are on disk."""

    def __init__(self, store: Store) -> None:
        def job(tx: Transaction, groups: Any) -> list[None]:
            audit.record(tx, [entry for group in groups for entry in group], next_id=store.next_id, now_us=store.now_us())
            return [None] * len(groups)

        self._write = store.bulk(job)

    async def note(self, *entries: audit.AuditEntry) -> None:
        if entries:
            await self._write(entries)


def audit_entry(principal: Principal, act: str, target: str, *, patient_id: int | None = None, **detail: Any) -> audit.AuditEntry:
    return audit.AuditEntry(principal.name, principal.role.value, act, target, patient_id, detail)


def trail_of(request: Request) -> AuditTrail:
    trail: AuditTrail = request.app.state.trail
    return trail
