"""Provenance: from which messages and documents, and from where in them, each version of a resource came. Rows, rendered on read.

A fact of a document names the element (XPath) and the document, and the message with the place of the document in it. What a
hidden document says is not named. It outlives its message: number, source and path stay, and it says that it was pruned.

Standard: FHIR R4 Provenance; v3-DataOperation.
"""

from __future__ import annotations

from itertools import groupby

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
_MOST_ROWS = 10_000
_MAPPING = "urn:vaguemestre:mapping:"
_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_AGENT_TYPE = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_SELECT = (
    "SELECT p.resource_id, p.version, p.message_id, p.path, p.mapping, p.source, r.type, COALESCE(v.mask, r.mask),"
    " COALESCE(v.status, r.status), COALESCE(v.updated_at, r.updated_at),"
    " (SELECT m.id FROM message m WHERE m.id = p.message_id), p.document_id,"
    " (SELECT MIN(o.path) FROM provenance o WHERE o.resource_id = p.document_id AND o.message_id = p.message_id)"
    " FROM provenance p"
    " JOIN resource r ON r.id = p.resource_id"
    " LEFT JOIN resource_version v ON v.id = p.resource_id AND v.version = p.version WHERE "
)


def read_provenance(tx: Transaction, logical_id: str, *, viewer: Viewer) -> Json | None:
    """The Provenance `<resource id>.<version>`; None when there is none, or when its target is hidden from `viewer`."""
    resource, dot, version = logical_id.rpartition(".")
    number = number_of(resource)
    if not dot or number is None or not _is_version(version):
        return None
    found = _found(tx, "p.resource_id = ? AND p.version = ?", (number, int(version)), viewer)
    return found[0] if found else None


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
    total = len(_found(tx, sql, tuple(values), viewer)) if counted or count == 0 else None
    if after:
        if not _is_version(after):
            raise SearchRefused("after")
        sql, values = f"{sql} AND p.version < ?", [*values, int(after)]
    found = _found(tx, sql, tuple(values), viewer)[: count + 1]
    return cut(found, count, lambda last: str(last["id"]).rpartition(".")[2], total=total)


def _found(tx: Transaction, sql: str, values: tuple[object, ...], viewer: Viewer) -> list[Json]:
    """One Provenance a version, newest first; only what comes from documents that the viewer may see."""
    now = visible(viewer)
    then = visible(viewer, mask="COALESCE(v.mask, r.mask)")
    document = visible(viewer, mask="x.mask", resource_id="x.id")
    rows = tx.rows(
        f"{_SELECT}{sql} AND {now.sql} AND {then.sql}"  # noqa: S608 - our names
        f" AND (p.document_id IS NULL OR EXISTS (SELECT 1 FROM resource x WHERE x.id = p.document_id AND {document.sql}))"
        " ORDER BY p.resource_id, p.version DESC, p.message_id, p.path LIMIT ?",
        *values,
        *now.values,
        *then.values,
        *document.values,
        _MOST_ROWS,
    )
    return [_render(list(version)) for _, version in groupby(rows, key=lambda row: (row[0], row[1]))]


def _render(rows: list[Row]) -> Json:
    resource_id, version, _, _, _, _, kind, mask, status, updated_at = rows[0][:10]
    at = instant(updated_at)
    target = f"{kind}/{uid_text(resource_id)}"
    act = "DELETE" if status == "entered-in-error" else ("CREATE" if version == 1 else "UPDATE")
    sources = dict.fromkeys(row[5] or "unknown" for row in rows)
    rendered: Json = {
        "resourceType": "Provenance",
        "id": f"{uid_text(resource_id)}.{version}",
        "meta": {"versionId": "1", "lastUpdated": at},
        "target": [{"reference": f"{target}/_history/{version}"}],
        "recorded": at,
        "policy": [_MAPPING + mapping for mapping in dict.fromkeys(row[4] for row in rows)],
        "activity": {"coding": [{"system": _OPERATION, "code": act}]},
        "agent": [
            {"type": {"coding": [{"system": _AGENT_TYPE, "code": "author"}]}, "who": {"display": source}} for source in sources
        ],
        "entity": [entity for row in rows for entity in _entities(row)],
    }
    if security := labels(mask):
        rendered["meta"]["security"] = security
    return rendered


def _entities(row: Row) -> list[Json]:
    """The document with the XPath in it, when there is one, and the message with the place in it."""
    message_id, path, kept, document, place = row[2], row[3], row[10], row[11], row[12]
    found: list[Json] = []
    if document is not None:
        found.append(_entity(f"DocumentReference/{uid_text(document)}", path))
        path = place or ""
    return [*found, _entity(f"urn:uuid:{uid_text(message_id)}", path, pruned=kept is None)]


def _entity(reference: str, path: str, *, pruned: bool = False) -> Json:
    extensions: list[Json] = [{"url": SOURCE_PATH, "valueString": path}] if path else []
    if pruned:
        extensions.append({"url": MESSAGE_PRUNED, "valueBoolean": True})
    entity: Json = {"role": "source", "what": {"reference": reference}}
    return {**entity, "extension": extensions} if extensions else entity


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < len(text) < 10
