"""more than one machine: members, shards of routing, order of arrival"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# rows that live for seconds: their tables are cleaned by number of dead rows, not by share of the table
_BUSY = {"lane": 5_000, "member": 500, "job_lease": 500, "message": 50_000, "delivery": 50_000}


def upgrade() -> None:
    op.create_table(
        "member",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("edge", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner"),
        sa.UniqueConstraint("edge"),
    )
    op.create_table(
        "job_position",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job"),
    )
    op.add_column("message", sa.Column("shard", sa.Integer(), server_default="0", nullable=False))
    op.add_column("message", sa.Column("arrival", sa.BigInteger(), nullable=True))
    op.drop_index("lane_owned", "lane")
    op.drop_column("lane", "lease_until")
    op.create_index(
        "lane_owner", "lane", ["owner"], sqlite_where=sa.text("owner IS NOT NULL"), postgresql_where=sa.text("owner IS NOT NULL")
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE message_arrival OWNED BY message.arrival")
        op.execute(
            "UPDATE message SET arrival = o.n FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM message) o WHERE o.id = message.id"
        )
        op.execute("SELECT setval('message_arrival', 1 + (SELECT coalesce(max(arrival), 0) FROM message), false)")
        op.execute("ALTER TABLE message ALTER COLUMN arrival SET DEFAULT nextval('message_arrival')")
        op.create_index("message_unrouted", "message", ["arrival"], postgresql_where=sa.text("state = 'RECEIVED'"))
        op.execute("ALTER TABLE body ALTER COLUMN bytes SET STORAGE EXTERNAL")  # packing base64 costs more than it saves
        # keys are compared as bytes, as in SQLite: smaller, faster, and no operating system's new collation spoils an index
        inspector = sa.inspect(op.get_bind())
        for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
            texts = [one["name"] for one in inspector.get_columns(table) if isinstance(one["type"], sa.Text)]
            if texts:
                op.execute(f"ALTER TABLE {table} " + ", ".join(f'ALTER COLUMN "{one}" TYPE text COLLATE "C"' for one in texts))
        for table, rows in _BUSY.items():
            op.execute(
                f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = {rows}, "
                f"autovacuum_vacuum_cost_delay = 0)"
            )
