"""facts of documents: which documents say them, by which translation; what changed since"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "derivation",
        sa.Column("document_id", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("document_id", "resource_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("derivation_by_resource", "derivation", ["resource_id"])
    op.create_table(
        "translated",
        sa.Column("document_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=False),
        sa.Column("mapping", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.Integer(), nullable=False),
        sa.Column("unread", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("document_id"),
    )
    op.add_column("provenance", sa.Column("document_id", sa.BigInteger(), nullable=True))
    op.create_index("resource_by_update", "resource", ["updated_at", "id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute('ALTER TABLE translated ALTER COLUMN "mapping" TYPE text COLLATE "C"')
