"""API tokens: 32 random bytes behind a prefix, kept as SHA-256, with a role.

The secret has 256 bits of entropy, so a plain digest keeps it: nobody can run through a dictionary of such tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from hub.model.identifiers import Finess, Rpps
from hub.store.port import Transaction

PREFIX = "vgm_"
_MAX_CHARACTERS = 128


class Role(StrEnum):
    OPERATOR = "operator"
    PROFESSIONAL = "professional"
    PHARMACIST = "pharmacist"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. `token_id` is 0 for someone who came in by a one-use link; `masked` may not see patient values."""

    token_id: int
    name: str
    role: Role
    masked: bool = False
    rpps: str = ""
    finess: str = ""


def create(
    tx: Transaction,
    *,
    name: str,
    role: Role,
    next_id: Callable[[], int],
    now_us: int,
    masked: bool = False,
    rpps: str = "",
    finess: str = "",
) -> str:
    """Keep a new token and give its secret, which is shown once and kept nowhere.

    Raises:
        ValueError: no name, or `rpps` or `finess` of a wrong shape.
    """
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise ValueError("a token needs a printable name of at most 80 characters")
    if rpps:
        Rpps(rpps)
    if finess:
        Finess(finess)
    secret = PREFIX + secrets.token_urlsafe(32)
    tx.run(
        "INSERT INTO token (id, name, hash, role, rpps, finess, masked, created_at, revoked_at) VALUES (?,?,?,?,?,?,?,?,NULL)",
        next_id(),
        name.strip(),
        _digest(secret),
        role.value,
        rpps or None,
        finess or None,
        int(masked),
        now_us,
    )
    return secret


_COLUMNS = "id, name, role, masked, rpps, finess, hash"


def find(tx: Transaction, presented: str) -> Principal | None:
    """Who holds the token `presented`; None when there is none, or it was revoked."""
    if not presented.startswith(PREFIX) or len(presented) > _MAX_CHARACTERS:
        return None
    digest = _digest(presented)
    row = tx.row(f"SELECT {_COLUMNS} FROM token WHERE hash = ? AND revoked_at IS NULL", digest)  # noqa: S608 - constant columns
    if row is None or not hmac.compare_digest(digest, bytes(row[6])):
        return None
    return Principal(row[0], row[1], Role(row[2]), bool(row[3]), row[4] or "", row[5] or "")


def is_valid(tx: Transaction, token_id: int) -> bool:
    """Whether a token that was presented earlier still holds."""
    return tx.row("SELECT 1 FROM token WHERE id = ? AND revoked_at IS NULL", token_id) is not None


def revoke(tx: Transaction, name: str, *, now_us: int) -> int:
    """Revoke every token of that name; how many there were."""
    return len(tx.rows("UPDATE token SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL RETURNING id", now_us, name))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
