"""Commands that wait for the answer to their run's POST."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "commands",
        sa.Column("run_id", sa.String(36), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("kept_at", sa.Float(), nullable=False),
    )
