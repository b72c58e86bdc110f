"""`vaguemestre token create|list|revoke`: also beside a running hub, which knows a new token at its first use."""

from __future__ import annotations

from hub.app.beside import audit, opened
from hub.app.config import Installation
from hub.app.database import upgraded
from hub.app.terminal import counted, failed, local_time, print_json, print_table, printable, remark
from hub.ledger.instants import instant
from hub.model.identifiers import Finess, Rpps
from hub.model.refusals import HubError
from hub.store import Transaction
from hub.store.opening import is_there
from hub.web import tokens
from hub.web.tokens import Role

_LIST = "SELECT name, role, rpps, finess, masked, created_at, revoked_at FROM token ORDER BY id"


def create(installation: Installation, *, name: str, role: str, rpps: str, finess: str, masked: bool) -> int:
    """Print a new token once, as the last word; 2 for what cannot be one."""
    mistake = _mistake(name, role, rpps, finess, masked)
    if mistake:
        remark(mistake)
        return 2

    def make(tx: Transaction) -> str:
        secret = tokens.create(
            tx, name=name, role=Role(role), next_id=store.next_id, now_us=store.now_us(), masked=masked, rpps=rpps, finess=finess
        )
        audit(tx, store, "token.create", f"token/{name.strip()}", role=role, masked=masked)
        return secret

    try:
        if not is_there(installation.place):
            upgraded(installation)
        with opened(installation) as store:
            secret = store.write(make)
    except HubError as error:
        return failed(error)
    except OSError as error:
        remark(f"the database at {installation.place.name} cannot be made ({type(error).__name__}): run as the user of the hub")
        return 1
    if role == Role.PROFESSIONAL and not rpps:
        remark("without --rpps this professional is nobody's author: documents hidden from professionals stay hidden")
    print(f"Token {printable(name.strip())} ({role}), shown this once: {secret}")
    return 0


def list_all(installation: Installation, *, as_json: bool = False) -> int:
    """Print every token, without its secret."""
    try:
        with opened(installation, read_only=True) as store:
            rows = store.read(lambda tx: tx.rows(_LIST))
    except HubError as error:
        return failed(error)
    items = [
        {
            "name": name,
            "role": role,
            "rpps": rpps,
            "finess": finess,
            "masked": bool(masked),
            "created_at": instant(created),
            "revoked_at": instant(revoked),
        }
        for name, role, rpps, finess, masked, created, revoked in rows
    ]
    if as_json:
        print_json({"items": items})
        return 0
    if not items:
        print("No token yet: vaguemestre token create --name NAME --role ROLE makes one.")
        return 0
    zone = installation.site.timezone
    print_table(
        ("NAME", "ROLE", "RPPS", "FINESS", "MASKED", "CREATED", "REVOKED"),
        [
            (
                item["name"],
                item["role"],
                item["rpps"] or "",
                item["finess"] or "",
                "yes" if item["masked"] else "",
                local_time(item["created_at"], zone),
                local_time(item["revoked_at"], zone),
            )
            for item in items
        ],
    )
    return 0


def revoke(installation: Installation, name: str) -> int:
    """Revoke every token of that name; 1 when there is none."""

    def end(tx: Transaction) -> int:
        n = tokens.revoke(tx, name, now_us=store.now_us())
        if n:
            audit(tx, store, "token.revoke", f"token/{name}", count=n)
        return n

    try:
        with opened(installation) as store:
            n = store.write(end)
    except HubError as error:
        return failed(error)
    if not n:
        remark(f"no valid token has the name {name}: vaguemestre token list shows those there are")
        return 1
    print(f"Revoked {counted(n, 'token')} named {printable(name)}.")
    return 0


def _mistake(name: str, role: str, rpps: str, finess: str, masked: bool) -> str:
    roles = tuple(Role)
    if role not in roles:
        return f"--role: {role!r} is none of {', '.join(roles[:-1])} or {roles[-1]}"
    if not name.strip() or len(name) > 80 or not name.isprintable():
        return "--name: a printable name of at most 80 characters, for example the application that will hold the token"
    if masked and role != Role.OPERATOR:
        return "--masked is for the role operator"
    try:
        if rpps:
            Rpps(rpps)
    except ValueError:
        return "--rpps: must be 11 digits"
    try:
        if finess:
            Finess(finess)
    except ValueError:
        return "--finess: must be 9 characters, for example 300017985"
    return ""
