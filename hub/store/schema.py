"""The schema, once, for both engines. Times are UTC microseconds; row numbers come from `hub.model.uids`.

Partial indexes keep the acknowledgement's transaction short: a message enters the search indexes when it is routed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _no_rowid() -> dict[str, Any]:
    return {"sqlite_with_rowid": False}


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


# ---- the ledger ----------------------------------------------------------------------------------------------------

message = Table(
    "message",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("connection", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("type", Text, nullable=False),  # ADT^A01
    Column("control_id", Text, nullable=False),  # MSH-10
    Column("sending_app", Text, nullable=False),  # MSH-3.1
    Column("charset", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("in_file", Integer, nullable=False),  # 1: the bytes are a blob file named by sha256
    Column("received_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("ack_code", Text, nullable=False),
    Column("ack_error", Text),  # JSON {code, at, text}
    Column("ack_state", Text, nullable=False),
    Column("findings", Text),  # JSON [{code, at, text}]
    Column("patient_id", BigInteger),
    Column("routed_at", BigInteger),
    Column("open_n", Integer, nullable=False, server_default="0"),
    Column("failed_n", Integer, nullable=False, server_default="0"),
    Column("shard", Integer, nullable=False, server_default="0"),  # whose turn it is to route it: `hub.flow.shards`
    # the order in which a shared store kept messages, by a sequence of the server; NULL in SQLite, where `id` tells it
    Column("arrival", BigInteger),
    Index("message_open", "state", "id", **_where("state <> 'DONE'")),
    Index("message_by_control", "control_id", "id", **_where("routed_at IS NOT NULL")),
    Index("message_by_type", "type", "id", **_where("routed_at IS NOT NULL")),
    Index("message_by_patient", "patient_id", "id", **_where("patient_id IS NOT NULL")),
    Index("message_unrouted", "arrival", **_where("state = 'RECEIVED'")).ddl_if(dialect="postgresql"),
    Index("message_large", "sha256", **_where("in_file = 1")),
)
body = Table(
    "body",
    metadata,
    Column("message_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)
dedupe = Table(
    "dedupe",
    metadata,
    Column("source", Text, nullable=False),
    Column("control_id", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("source", "control_id", "sha256"),
    **_no_rowid(),
)
delivery = Table(
    "delivery",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, nullable=False),
    Column("destination", Text, nullable=False),
    Column("mapping", Text, nullable=False),  # per-destination rewriting, or empty
    Column("replay", Integer, nullable=False),  # 0, or the how manieth replay made it
    Column("replay_of", BigInteger),  # delivery id
    Column("lane", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("external_ref", Text),
    Column("last_error", Text),
    Column("first_try_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("document", Text),  # id of the document it carries
    Column("follows", Text),  # id of the document that it replaces or deletes
    UniqueConstraint("message_id", "destination", "replay", name="delivery_idem_key"),
    Index("delivery_open", "lane", "id", **_where("state IN ('QUEUED','WAITING','SENDING','UNSURE')")),
    Index("delivery_dead_document", "destination", "document", **_where("state = 'DEAD' AND document IS NOT NULL")),
    Index("delivery_not_delivered", "state", "id", **_where("state <> 'DELIVERED'")),
)
attempt = Table(
    "attempt",
    metadata,
    Column("delivery_id", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),  # DeliveryEvent
    Column("error", Text),
    Column("answer", LargeBinary),  # what the peer said, cut at 4 KiB
    PrimaryKeyConstraint("delivery_id", "n"),
    **_no_rowid(),
)
barrier = Table(  # in `lane`, deliveries from `at` on wait until `other` has no open delivery below `at`
    "barrier",
    metadata,
    Column("lane", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("other", Text, nullable=False),
    PrimaryKeyConstraint("lane", "at", "other"),
    Index("barrier_other", "other"),
)
lane = Table(
    "lane",
    metadata,
    Column("key", Text, nullable=False),  # destination/p<patient number> or destination/s<source>/<connection>
    Column("destination", Text, nullable=False),
    Column("head", BigInteger, nullable=False),  # delivery id of the oldest open delivery when it was last looked at
    Column("not_before", BigInteger, nullable=False),
    Column("owner", Text),  # a `member`, or the one process of a data folder
    Column("epoch", BigInteger, nullable=False),
    Column("blocked_reason", Text),
    PrimaryKeyConstraint("key"),
    Index("lane_ready", "destination", "not_before", "head", **_where("owner IS NULL AND blocked_reason IS NULL")),
    Index("lane_owner", "owner", **_where("owner IS NOT NULL")),
    **_no_rowid(),
)
receipt = Table(
    "receipt",
    metadata,
    Column("delivery_id", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("kind", Text, nullable=False),  # ACK DMP DSN MDN
    Column("positive", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("code", Text),
    Column("detail", Text),
    PrimaryKeyConstraint("delivery_id", "n"),
    **_no_rowid(),
)
member = Table(  # the processes of a shared store; who misses its lease loses its lanes
    "member",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("edge", Integer, nullable=False, unique=True),  # of its row numbers
    Column("role", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("session", Text, nullable=False),  # the name of its connections on the server
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("configuration", Text, nullable=False, server_default=""),  # fingerprint of the file that it runs with
)
job_lease = Table(
    "job_lease",
    metadata,
    Column("job", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
)
job_position = Table(  # how far a job that works in slices has come
    "job_position", metadata, Column("job", Text, primary_key=True), Column("position", BigInteger, nullable=False)
)
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),  # name of the token or user
    Column("role", Text, nullable=False),
    Column("act", Text, nullable=False),  # read, search, replay, discard, token.create, …
    Column("target", Text, nullable=False),  # Patient/…, message/…
    Column("patient_id", BigInteger),
    Column("detail", Text, nullable=False),  # JSON, no patient values
    Column("previous", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index("audit_by_patient", "patient_id", "id", **_where("patient_id IS NOT NULL")),
)
token = Table(
    "token",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("rpps", Text),
    Column("finess", Text),
    Column("masked", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)
legal_hold = Table(  # what retention must not touch; a released one stays, for who asks later
    "legal_hold",
    metadata,
    Column("kind", Text, nullable=False),  # message patient source
    Column("target", Text, nullable=False),  # UUID of a message or of a patient, name of a source
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("released_at", BigInteger),
    Column("released_by", Text),
    Column("release_reason", Text),
    PrimaryKeyConstraint("kind", "target", "at"),
    Index("legal_hold_active", "kind", "target", unique=True, **_where("released_at IS NULL")),
    **_no_rowid(),
)
pruned = Table(  # how many messages are not there any more: counts stay right
    "pruned",
    metadata,
    Column("source", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("day", Integer, nullable=False),  # on which they were received, UTC, days since 1970
    Column("messages", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    PrimaryKeyConstraint("source", "type", "state", "day"),
    **_no_rowid(),
)
blob_leaving = Table(  # large bodies that lost a name: perhaps nobody else names them
    "blob_leaving",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("going", Integer, nullable=False),  # 1: it is being removed, and cannot be named until its row is gone
    **_no_rowid(),
)

# ---- the patient record --------------------------------------------------------------------------------------------

patient = Table(
    "patient",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("birth_name", Text, nullable=False),  # comparable form
    Column("birth_date", Text, nullable=False),
    Column("sex", Text, nullable=False),
    Column("status", Text, nullable=False),  # PID-32 repetitions joined with ~
    Column("created_at", BigInteger, nullable=False),
    Column("merged_into", BigInteger),  # the patient that this one turned out to be; never a merged one itself
    Index("patient_merged", "merged_into", **_where("merged_into IS NOT NULL")),
)
patient_merge = Table(  # every merge, with who asked for it and who undid it; `patient.merged_into` follows from those not undone
    "patient_merge",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("survivor", BigInteger, nullable=False),
    Column("prior", BigInteger, nullable=False),
    Column("message_id", BigInteger),  # NULL: an operator
    Column("actor", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("undone_at", BigInteger),
    Column("undone_by", Text),
    Column("undone_message_id", BigInteger),
    Index("patient_merge_by_survivor", "survivor"),
    Index("patient_merge_by_prior", "prior"),
)
patient_identifier = Table(
    "patient_identifier",
    metadata,
    Column("system", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("kind", Text, nullable=False),  # INS or the CX-5 type
    Column("patient_id", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger),  # since when it is an old number of the same patient
    PrimaryKeyConstraint("system", "value"),
    Index("patient_identifier_by_patient", "patient_id"),
    **_no_rowid(),
)
identity_case = Table(
    "identity_case",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # INS_TRAITS_DIFFER, INS_HELD_BY_ANOTHER, INS_CHANGED, TWO_PATIENTS
    Column("fingerprint", LargeBinary, nullable=False, unique=True),
    Column("patient_id", BigInteger, nullable=False),  # the newcomer, whose INS is withheld
    Column("other_patient_id", BigInteger),
    Column("system", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # OPEN LINKED SPLIT REFUSED CLOSED
    Column("created_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("closed_by", Text),
    Column("reason", Text),
    Index("identity_case_open", "id", **_where("state = 'OPEN'")),
)
movement = Table(  # append-only: a row for each message that inserted, updated or cancelled a movement of a stay
    "movement",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("encounter_id", BigInteger, nullable=False),  # resource
    Column("key", Text, nullable=False),
    Column("action", Text, nullable=False),  # INSERT UPDATE CANCEL
    Column("event", Text, nullable=False),  # A01, …
    Column("original_event", Text, nullable=False),  # of what is updated or cancelled
    Column("start", Text, nullable=False),  # FHIR dateTime
    Column("historic", Integer, nullable=False),
    Column("nature", Text, nullable=False),
    Column("event_time", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("facts", LargeBinary, nullable=False),  # JSON: what PV1 says from then on
    Index("movement_by_encounter", "encounter_id"),
)
resource = Table(
    "resource",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("patient_id", BigInteger),
    Column("sort_date", Text, nullable=False),  # the date a list of this type is ordered by, ISO
    Column("status", Text, nullable=False),
    Column("mask", Integer, nullable=False),  # bits of hub.model.record_change
    Column("event_time", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # FHIR JSON without id and meta
    UniqueConstraint("type", "key", name="resource_key"),
    Index("resource_by_patient", "patient_id", "type", "sort_date", "id", **_where("patient_id IS NOT NULL")),
    Index("resource_by_update", "updated_at", "id"),
)
resource_version = Table(
    "resource_version",
    metadata,
    Column("id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("mask", Integer, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("id", "version"),
)
token_index = Table(
    "token_index",
    metadata,
    Column("param", Text, nullable=False),  # Patient.identifier, DocumentReference.identifier, …
    Column("value", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("resource_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("param", "value", "system", "resource_id"),
    **_no_rowid(),
)
provenance = Table(
    "provenance",
    metadata,
    Column("resource_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    Column("path", Text, nullable=False),
    Column("mapping", Text, nullable=False),
    Column("source", Text, nullable=False, server_default=""),  # who sent the message: stays when the message is pruned
    Column("document_id", BigInteger),  # the document in which `path` stands, when it is an XPath
    PrimaryKeyConstraint("resource_id", "version", "message_id", "path"),
    Index("provenance_by_message", "message_id"),
    **_no_rowid(),
)
derivation = Table(  # which documents say a fact now; those that are current decide whether it stands, and who may see it
    "derivation",
    metadata,
    Column("document_id", BigInteger, nullable=False),
    Column("resource_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("document_id", "resource_id"),
    Index("derivation_by_resource", "resource_id"),
    **_no_rowid(),
)
translated = Table(  # by which translation the content of a document was last read
    "translated",
    metadata,
    Column("document_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("mapping", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("facts", Integer, nullable=False),
    Column("unread", Integer, nullable=False),  # statements that stay in the document
)
binary = Table(
    "binary_content",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("resource_id", BigInteger, nullable=False),  # its DocumentReference
    Column("message_id", BigInteger, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("length", Integer, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("sha1", LargeBinary, nullable=False),
    Column("promoted", LargeBinary),  # the bytes themselves, once the message is pruned
    Column("promoted_blob", LargeBinary),  # or, where they are many, the SHA-256 that names them in the blob storage
    Index("binary_by_message", "message_id"),
    Index("binary_by_resource", "resource_id"),
    Index("binary_large", "promoted_blob", **_where("promoted_blob IS NOT NULL")),
)
