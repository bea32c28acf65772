"""The first schema: runs, events and their deliveries, and the processes that share the store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_OPEN = "state IN ('accepted', 'in_doubt', 'running', 'starting', 'waiting_for_human')"
_FINAL = "state IN ('cancelled', 'failed', 'succeeded', 'timed_out')"
_STATES = (
    "state IN ('accepted', 'cancelled', 'failed', 'in_doubt', 'running', 'starting', 'succeeded', 'timed_out', "
    "'waiting_for_human')"
)
_OF_CLIENT = "source LIKE 'client/%'"
_UNDELIVERED = "state IN ('dead', 'pending')"
_PENDING_UNOWNED = "state = 'pending' AND owner IS NULL"


def upgrade() -> None:
    """Create every table and index."""
    _create_runs()
    _create_tables_of_runs()
    _create_events()
    _create_deliveries()
    _create_cluster()


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("crew", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("due_at", sa.Float()),
        sa.Column("expires_at", sa.Float()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("deadline", sa.Float()),
        sa.Column("start_by", sa.Float()),
        sa.Column("callback_url", sa.Text()),
        sa.Column("reply_to", sa.Text()),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("traceparent", sa.Text()),
        sa.Column("signature_digest", sa.String(64)),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("meta", sa.LargeBinary(), nullable=False),
        sa.Column("restore_from", sa.LargeBinary()),
        sa.Column("retry_of", sa.String(36)),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.Float()),
        sa.Column("auto_retries", sa.Integer(), nullable=False),
        sa.Column("in_doubt_emitted", sa.Integer(), nullable=False),
        sa.Column("kickoff_id", sa.Text()),
        sa.Column("unverified", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("progress", sa.LargeBinary()),
        sa.Column("tasks", sa.LargeBinary()),
        sa.Column("human_input", sa.LargeBinary()),
        sa.Column("deferral", sa.LargeBinary()),
        sa.Column("history", sa.LargeBinary()),
        sa.Column("result", sa.LargeBinary()),
        sa.Column("result_json", sa.LargeBinary()),
        sa.Column("usage", sa.LargeBinary()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.CheckConstraint(_STATES, name="runs_state_known"),
        sa.CheckConstraint(f"({_FINAL}) = (finished_at IS NOT NULL)", name="runs_finished_at_if_final"),
        sa.CheckConstraint(
            "state NOT IN ('running', 'waiting_for_human') OR kickoff_id IS NOT NULL", name="runs_kickoff_id_if_running"
        ),
    )
    keyed, signed, sent = "idempotency_key IS NOT NULL", "signature_digest IS NOT NULL", "sent_at IS NOT NULL"
    queued = "state = 'accepted' AND owner IS NULL"
    _create_index("runs_idempotency_key", "runs", ["idempotency_key", "source", "crew"], keyed, unique=True)
    _create_index("runs_signature_digest", "runs", ["signature_digest", "source"], signed, unique=True)
    _create_index("runs_fingerprint", "runs", ["fingerprint", "accepted_at"], "idempotency_key IS NULL")
    # Before those for claims, because among equivalent indexes SQLite uses the one created last.
    _create_index("runs_by_state", "runs", ["state", "run_id"])
    _create_index("runs_by_crew", "runs", ["crew", "state", "run_id"])
    _create_index("runs_by_source", "runs", ["source", "state", "run_id", "crew"], _OF_CLIENT)
    _create_index("runs_due", "runs", ["state", "owner", "due_at"])
    _create_index("runs_open", "runs", ["crew", "state", "owner", "due_at"], _OPEN)
    _create_index(
        "runs_kickoff_queue",
        "runs",
        ["crew", sa.text("priority DESC"), "run_id", "due_at", "source", "expires_at"],
        queued,
    )
    _create_index("runs_expiring", "runs", ["crew", "expires_at"], f"{queued} AND expires_at IS NOT NULL")
    _create_index("runs_crew_budget", "runs", ["crew", "sent_at"], sent)
    _create_index("runs_client_budget", "runs", ["source", "sent_at"], _OF_CLIENT)
    _create_index("runs_finished_at", "runs", ["finished_at"], "finished_at IS NOT NULL")
    _create_index("runs_kickoff_id", "runs", ["kickoff_id", "crew"], "kickoff_id IS NOT NULL", unique=True)
    _create_index("runs_correlation_id", "runs", ["correlation_id", "run_id"], "correlation_id IS NOT NULL")
    _create_index("runs_error", "runs", ["error_code", "run_id", "crew", "source"], "error_code IS NOT NULL")


def _create_tables_of_runs() -> None:
    op.create_table(
        "run_meta",
        sa.Column("run_id", sa.String(36), _reference("runs.run_id"), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
    _create_index("run_meta_value", "run_meta", ["name", "value", "run_id"])
    op.create_table(
        "pending_commands",
        sa.Column("run_id", sa.String(36), _reference("runs.run_id"), primary_key=True),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "webhook_inbox",
        sa.Column("entry_id", sa.Text(), primary_key=True),
        sa.Column("crew", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(36), _reference("runs.run_id")),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kickoff_id", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("owner", sa.Text()),
    )
    _create_index("webhook_inbox_run_id", "webhook_inbox", ["run_id"])
    _create_index("webhook_inbox_received_at", "webhook_inbox", ["received_at", "entry_id"])
    op.create_table(
        "run_times",
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("crew", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=False),
        sa.Column("earliest", sa.Float(), nullable=False),
        sa.Column("latest", sa.Float(), nullable=False),
        sa.Column("task_marks", sa.LargeBinary(), nullable=False),
    )
    _create_index("run_times_crew", "run_times", ["crew", "ended_at"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text(), primary_key=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(36), _reference("runs.run_id")),
        sa.Column("crew", sa.Text()),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("stored_at", sa.Float(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    _create_index("events_run_id", "events", ["run_id"])
    _create_index("events_created_at", "events", ["created_at", "event_id"])
    _create_index("events_stored_at", "events", ["stored_at", "event_id"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text(), primary_key=True),
        sa.Column("event_id", sa.Text(), _reference("events.event_id"), nullable=False),
        sa.Column("crew", sa.Text()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("earlier_attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("delivered_at", sa.Float()),
        sa.CheckConstraint("state IN ('dead', 'delivered', 'pending')", name="deliveries_state_known"),
    )
    _create_index("deliveries_event_id", "deliveries", ["event_id"])
    _create_index("deliveries_undelivered", "deliveries", ["channel", "state", "created_at"], _UNDELIVERED)
    _create_index("deliveries_due", "deliveries", ["channel", "due_at", "receiver"], _PENDING_UNOWNED)
    _create_index("deliveries_by_state", "deliveries", ["state", "delivery_id"])
    _create_index("deliveries_by_crew", "deliveries", ["crew", "state", "delivery_id"])
    _create_index("deliveries_receiver", "deliveries", ["receiver"], "receiver IS NOT NULL")
    _create_index("deliveries_claimed", "deliveries", ["receiver"], "owner IS NOT NULL")
    op.create_table(
        "delivery_attempts",
        sa.Column("delivery_id", sa.Text(), _reference("deliveries.delivery_id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("code", sa.Integer()),
        sa.Column("response", sa.LargeBinary()),
    )
    op.create_table(
        "receivers",
        sa.Column("receiver", sa.Text(), primary_key=True),
        sa.Column("failing_since", sa.Float()),
        sa.Column("paused_at", sa.Float()),
    )


def _create_cluster() -> None:
    op.create_table(
        "processes",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("heartbeat_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "served_crews",
        sa.Column("crew", sa.Text(), primary_key=True),
        sa.Column("process", sa.Text(), _reference("processes.name"), primary_key=True),
    )
    _create_index("served_crews_process", "served_crews", ["process"])
    op.create_table(
        "store_metadata",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
    )


def _reference(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")


def _create_index(
    name: str, table: str, columns: list[str | sa.TextClause], where: str | None = None, *, unique: bool = False
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
