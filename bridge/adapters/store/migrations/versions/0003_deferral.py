"""Why and until when a run is deferred."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("runs", sa.Column("deferral", sa.LargeBinary(), nullable=True))
