"""What an examination says of one thing."""

from __future__ import annotations

from dataclasses import dataclass

from hub.store.upgrade import HEAD

OK, WARNING, WRONG = "ok", "warning", "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`level` is OK, WARNING (it works, and somebody should know) or WRONG; `next` is the step that mends it."""

    check: str
    level: str
    says: str
    next: str = ""


def schema_verdict(version: str) -> Verdict:
    """The migration that a database has, against the newest."""
    if version == HEAD:
        return Verdict("schema", OK, version)
    if version > HEAD:
        return Verdict("schema", WRONG, f"{version} is newer than this version's {HEAD}", "install the newer version again")
    return Verdict(
        "schema",
        WRONG,
        f"{version or 'none'}, this version needs {HEAD}",
        "stop the hub, copy the database, vaguemestre db upgrade",
    )
