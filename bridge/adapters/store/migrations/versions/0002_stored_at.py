"""When each event was stored, which streams go by; of events that are there already, when they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column and its index."""
    # SQLite adds no column without a default that may not be null; nothing of ours is written without a value
    op.add_column("events", sa.Column("stored_at", sa.Float(), nullable=False, server_default="0"))
    op.execute("UPDATE events SET stored_at = created_at")
    op.create_index("events_stored", "events", ["stored_at", "event_id"], unique=False)
