"""Provenance: from which message, and from where in it, each version of a resource came. A row, rendered on read.

It outlives its message: number, source and path stay, and it says that the message was pruned.

Standard: FHIR R4 Provenance; v3-DataOperation.
"""

from __future__ import annotations

from hub.model.record_change import Json
from hub.model.uids import uid_text
from hub.record.instants import instant
from hub.record.masking import Viewer, labels, visible
from hub.record.page import Page, SearchRefused, cut
from hub.record.rendering import number_of
from hub.store import Transaction
from hub.store.port import Row

SOURCE_PATH = "urn:vaguemestre:source-path"
MESSAGE_PRUNED = "urn:vaguemestre:message-pruned"
_MAPPING = "urn:vaguemestre:mapping:"
_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_AGENT_TYPE = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_SELECT = (
    "SELECT p.resource_id, p.version, p.message_id, p.path, p.mapping, p.source, r.type, COALESCE(v.mask, r.mask),"
    " COALESCE(v.status, r.status), COALESCE(v.updated_at, r.updated_at),"
    " (SELECT m.id FROM message m WHERE m.id = p.message_id) FROM provenance p"
    " JOIN resource r ON r.id = p.resource_id"
    " LEFT JOIN resource_version v ON v.id = p.resource_id AND v.version = p.version WHERE "
)


def read_provenance(tx: Transaction, logical_id: str, *, viewer: Viewer) -> Json | None:
    """The Provenance `<resource id>.<version>`; None when there is none, or when its target is hidden from `viewer`."""
    resource, dot, version = logical_id.rpartition(".")
    number = number_of(resource)
    if not dot or number is None or not _is_version(version):
        return None
    rows = _rows(tx, "p.resource_id = ? AND p.version = ?", (number, int(version)), viewer)
    return rows[0] if rows else None


def search_provenance(
    tx: Transaction, targets: list[str], *, viewer: Viewer, count: int, after: str, counted: bool = False
) -> Page:
    """The Provenances of one resource, newest version first. `targets` are `Type/id` or `Type/id/_history/version`.

    Raises:
        SearchRefused: no target, or more than one.
    """
    if len(targets) != 1:
        raise SearchRefused("target")
    parts = targets[0].split("/")
    version = parts[-1] if len(parts) > 3 and parts[-2] == "_history" else ""
    kind, logical_id = (parts[-4:-2] if version else parts[-2:]) if len(parts) > 1 else ("", parts[0])
    number = number_of(logical_id)
    if number is None or (version and not _is_version(version)):
        return Page(total=0)
    sql, values = "p.resource_id = ?", [number]
    if kind:
        sql, values = f"{sql} AND r.type = ?", [*values, kind]  # type: ignore[list-item]
    if version:
        sql, values = f"{sql} AND p.version = ?", [*values, int(version)]
    total = len(_rows(tx, sql, tuple(values), viewer)) if counted or count == 0 else None
    if after:
        if not _is_version(after):
            raise SearchRefused("after")
        sql, values = f"{sql} AND p.version < ?", [*values, int(after)]
    found = _rows(tx, sql, tuple(values), viewer, limit=count + 1)
    return cut(found, count, lambda last: str(last["id"]).rpartition(".")[2], total=total)


def _rows(tx: Transaction, sql: str, values: tuple[object, ...], viewer: Viewer, limit: int = 1 << 20) -> list[Json]:
    now = visible(viewer)
    then = visible(viewer, mask="COALESCE(v.mask, r.mask)")
    rows = tx.rows(
        f"{_SELECT}{sql} AND {now.sql} AND {then.sql} ORDER BY p.version DESC, p.message_id, p.path LIMIT ?",
        *values,
        *now.values,
        *then.values,
        limit,
    )
    return [_render(row) for row in rows]


def _render(row: Row) -> Json:
    resource_id, version, message_id, path, mapping, source, kind, mask, status, updated_at, kept = row
    at = instant(updated_at)
    target = f"{kind}/{uid_text(resource_id)}"
    act = "DELETE" if status == "entered-in-error" else ("CREATE" if version == 1 else "UPDATE")
    rendered: Json = {
        "resourceType": "Provenance",
        "id": f"{uid_text(resource_id)}.{version}",
        "meta": {"versionId": "1", "lastUpdated": at},
        "target": [{"reference": f"{target}/_history/{version}"}],
        "recorded": at,
        "policy": [_MAPPING + mapping],
        "activity": {"coding": [{"system": _OPERATION, "code": act}]},
        "agent": [{"type": {"coding": [{"system": _AGENT_TYPE, "code": "author"}]}, "who": {"display": source or "unknown"}}],
        "entity": [
            {
                "role": "source",
                "what": {"reference": f"urn:uuid:{uid_text(message_id)}"},
                "extension": [
                    {"url": SOURCE_PATH, "valueString": path},
                    *([] if kept is not None else [{"url": MESSAGE_PRUNED, "valueBoolean": True}]),
                ],
            }
        ],
    }
    if security := labels(mask):
        rendered["meta"]["security"] = security
    return rendered


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < len(text) < 10
