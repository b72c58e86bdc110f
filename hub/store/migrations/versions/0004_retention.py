"""retention: legal holds, what was pruned, large bodies that nobody names any more, documents that outlive their message"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "legal_hold",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("released_at", sa.BigInteger()),
        sa.Column("released_by", sa.Text()),
        sa.Column("release_reason", sa.Text()),
        sa.PrimaryKeyConstraint("kind", "target", "at"),
        sqlite_with_rowid=False,
    )
    op.create_index("legal_hold_active", "legal_hold", ["kind", "target"], unique=True, **_where("released_at IS NULL"))
    op.create_table(
        "pruned",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "type", "state", "day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blob_leaving",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("going", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
        sqlite_with_rowid=False,
    )
    op.create_index("message_large", "message", ["sha256"], **_where("in_file = 1"))
    op.add_column("binary_content", sa.Column("promoted_blob", sa.LargeBinary(), nullable=True))
    op.create_index("binary_large", "binary_content", ["promoted_blob"], **_where("promoted_blob IS NOT NULL"))
    op.add_column("member", sa.Column("configuration", sa.Text(), server_default="", nullable=False))
    if op.get_bind().dialect.name == "postgresql":
        inspector = sa.inspect(op.get_bind())  # keys are compared as bytes, as in SQLite
        for table in ("legal_hold", "pruned", "member"):
            texts = [one["name"] for one in inspector.get_columns(table) if isinstance(one["type"], sa.Text)]
            op.execute(f"ALTER TABLE {table} " + ", ".join(f'ALTER COLUMN "{one}" TYPE text COLLATE "C"' for one in texts))
