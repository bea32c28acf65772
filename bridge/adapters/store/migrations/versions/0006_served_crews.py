"""Which crews each process serves."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "served_crews",
        sa.Column("crew", sa.Text(), primary_key=True),
        sa.Column("process", sa.Text(), sa.ForeignKey("processes.name", ondelete="CASCADE"), primary_key=True),
    )
    op.create_index("served_crews_process", "served_crews", ["process"])
