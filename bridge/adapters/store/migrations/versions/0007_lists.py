"""Indexes for lists, and each delivery's crew."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_OF_CLIENT = sa.text("source LIKE 'client/%'")


def upgrade() -> None:
    """Add the column and the indexes; the one of dead deliveries is the beginning of another."""
    op.create_index("runs_by_state", "runs", ["state", "run_id"])
    op.create_index("runs_by_crew", "runs", ["crew", "state", "run_id"])
    op.create_index(
        "runs_by_source",
        "runs",
        ["source", "state", "run_id", "crew"],
        sqlite_where=_OF_CLIENT,
        postgresql_where=_OF_CLIENT,
    )
    op.add_column("deliveries", sa.Column("crew", sa.Text(), nullable=True))
    op.execute(
        "UPDATE deliveries SET crew = (SELECT events.crew FROM events WHERE events.event_id = deliveries.event_id)"
    )
    op.drop_index("deliveries_dead", "deliveries")
    op.create_index("deliveries_by_state", "deliveries", ["state", "delivery_id"])
    op.create_index("deliveries_by_crew", "deliveries", ["crew", "state", "delivery_id"])
