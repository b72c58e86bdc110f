"""the French catalogue: movements of stays, merges of patients, barriers between lanes, decisions on doubtful identities"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _where(condition: str) -> dict[str, sa.TextClause]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.create_table(
        "barrier",
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("other", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lane", "at", "other"),
    )
    op.create_index("barrier_other", "barrier", ["other"])
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "patient_merge",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("survivor", sa.BigInteger(), nullable=False),
        sa.Column("prior", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("undone_at", sa.BigInteger()),
        sa.Column("undone_by", sa.Text()),
        sa.Column("undone_message_id", sa.BigInteger()),
    )
    op.create_index("patient_merge_by_survivor", "patient_merge", ["survivor"])
    op.create_index("patient_merge_by_prior", "patient_merge", ["prior"])
    op.create_table(
        "movement",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("encounter_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("original_event", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=False),
        sa.Column("historic", sa.Integer(), nullable=False),
        sa.Column("nature", sa.Text(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
    )
    op.create_index("movement_by_encounter", "movement", ["encounter_id"])
    op.add_column("patient", sa.Column("merged_into", sa.BigInteger(), nullable=True))
    op.create_index("patient_merged", "patient", ["merged_into"], **_where("merged_into IS NOT NULL"))
    op.add_column("patient_identifier", sa.Column("until", sa.BigInteger(), nullable=True))
    op.add_column("identity_case", sa.Column("closed_at", sa.BigInteger(), nullable=True))
    op.add_column("identity_case", sa.Column("closed_by", sa.Text(), nullable=True))
    op.add_column("identity_case", sa.Column("reason", sa.Text(), nullable=True))
    op.create_index("identity_case_open", "identity_case", ["id"], **_where("state = 'OPEN'"))
    if op.get_bind().dialect.name == "postgresql":
        inspector = sa.inspect(op.get_bind())  # keys are compared as bytes, as in SQLite
        for table in ("barrier", "patient_merge", "movement", "identity_case"):
            texts = [one["name"] for one in inspector.get_columns(table) if isinstance(one["type"], sa.Text)]
            op.execute(f"ALTER TABLE {table} " + ", ".join(f'ALTER COLUMN "{one}" TYPE text COLLATE "C"' for one in texts))
