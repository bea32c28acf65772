"""What protects a run from being paid for twice: its automatic retries, and whether its kickoff id is confirmed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; the runs that exist have used no automatic retry."""
    for name in ("auto_retries", "in_doubt_emitted", "unverified"):
        op.add_column("runs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
