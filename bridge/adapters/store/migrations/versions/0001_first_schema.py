"""The first schema: runs, their events, the deliveries of those, and the processes that own them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "keys",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "processes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("heartbeat_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("crew", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("reply_to", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("signature_digest", sa.String(length=64), nullable=True),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("meta", sa.LargeBinary(), nullable=False),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("kickoff_id", sa.Text(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("progress", sa.LargeBinary(), nullable=True),
        sa.Column("human_input", sa.LargeBinary(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("result_json", sa.LargeBinary(), nullable=True),
        sa.Column("usage", sa.LargeBinary(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'failed', 'succeeded', 'timed_out')) = (finished_at IS NOT NULL)",
            name="runs_finished",
        ),
        sa.CheckConstraint(
            "state IN ('accepted', 'cancelled', 'failed', 'in_doubt', 'running', 'starting', 'succeeded', 'timed_out', "
            "'waiting_for_human')",
            name="runs_state",
        ),
        sa.CheckConstraint(
            "state NOT IN ('running', 'waiting_for_human') OR kickoff_id IS NOT NULL", name="runs_kickoff_id"
        ),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("runs_finished_at", "runs", ["finished_at"], unique=False)
    op.create_index(
        "runs_key",
        "runs",
        ["source", "crew", "idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index("runs_kickoff", "runs", ["crew", "kickoff_id"], unique=True)
    op.create_index(
        "runs_slots",
        "runs",
        ["crew", "state", "owner", "due_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('accepted', 'in_doubt', 'running', 'starting', 'waiting_for_human')"),
        postgresql_where=sa.text("state IN ('accepted', 'in_doubt', 'running', 'starting', 'waiting_for_human')"),
    )
    op.create_index("runs_state", "runs", ["state", "owner", "due_at"], unique=False)
    op.create_index(
        "runs_signature_digest",
        "runs",
        ["source", "signature_digest"],
        unique=True,
        sqlite_where=sa.text("signature_digest IS NOT NULL"),
        postgresql_where=sa.text("signature_digest IS NOT NULL"),
    )
    op.create_index(
        "runs_unkeyed",
        "runs",
        ["fingerprint", "accepted_at"],
        unique=False,
        sqlite_where=sa.text("idempotency_key IS NULL"),
        postgresql_where=sa.text("idempotency_key IS NULL"),
    )
    op.create_index(
        "runs_waiting",
        "runs",
        ["crew", sa.literal_column("priority DESC"), "run_id", "due_at", "source"],
        unique=False,
        sqlite_where=sa.text("state = 'accepted' AND owner IS NULL"),
        postgresql_where=sa.text("state = 'accepted' AND owner IS NULL"),
    )
    op.create_index(
        "runs_sent",
        "runs",
        ["crew", "sent_at"],
        unique=False,
        sqlite_where=sa.text("sent_at IS NOT NULL"),
        postgresql_where=sa.text("sent_at IS NOT NULL"),
    )
    op.create_index(
        "runs_sent_by",
        "runs",
        ["source", "sent_at"],
        unique=False,
        sqlite_where=sa.text("source LIKE 'client/%'"),
        postgresql_where=sa.text("source LIKE 'client/%'"),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=True),
        sa.Column("crew", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("events_run", "events", ["run_id"], unique=False)
    op.create_index("events_made", "events", ["created_at", "event_id"], unique=False)
    op.create_table(
        "run_times",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("crew", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=False),
        sa.Column("earliest", sa.Float(), nullable=False),
        sa.Column("latest", sa.Float(), nullable=False),
        sa.Column("stages", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("run_times_crew", "run_times", ["crew", "ended_at"], unique=False)
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("webhook_id"),
    )
    op.create_index("webhooks_run", "webhooks", ["run_id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("earlier_attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.Float(), nullable=True),
        sa.CheckConstraint("state IN ('dead', 'delivered', 'pending')", name="deliveries_state"),
        sa.ForeignKeyConstraint(["event_id"], ["events.event_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("delivery_id"),
    )
    op.create_index(
        "deliveries_due",
        "deliveries",
        ["channel", "due_at", "receiver"],
        unique=False,
        sqlite_where=sa.text("state = 'pending' AND owner IS NULL"),
        postgresql_where=sa.text("state = 'pending' AND owner IS NULL"),
    )
    op.create_index("deliveries_event", "deliveries", ["event_id"], unique=False)
    op.create_index(
        "deliveries_dead",
        "deliveries",
        ["delivery_id"],
        unique=False,
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "deliveries_receiver",
        "deliveries",
        ["receiver"],
        unique=False,
        sqlite_where=sa.text("receiver IS NOT NULL"),
        postgresql_where=sa.text("receiver IS NOT NULL"),
    )
    op.create_index(
        "deliveries_held",
        "deliveries",
        ["receiver"],
        unique=False,
        sqlite_where=sa.text("owner IS NOT NULL"),
        postgresql_where=sa.text("owner IS NOT NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.delivery_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("delivery_id", "number"),
    )
    op.create_table(
        "receivers",
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("failing_since", sa.Float(), nullable=True),
        sa.Column("paused_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("receiver"),
    )
