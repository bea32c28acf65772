"""The tables. CHECK constraints repeat rules of the core, in addition to the state machine and the versions.

JSON is stored as bytes, not as the database's JSON type, which would change numbers and refuse some text. Times are
seconds since the epoch.
"""

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

from bridge.core.delivery.model import DeliveryState
from bridge.core.runs.model import FINAL_STATES, State

REVISION = "0001"
"""The newest migration, which results in these tables."""

metadata = MetaData()


def _one_of(column: str, values: list[str]) -> str:
    listed = ", ".join(f"'{value}'" for value in sorted(values))
    return f"{column} IN ({listed})"


def _partial_index(name: str, condition: str, *columns: ColumnElement[Any], unique: bool = False) -> None:
    """Index some rows. SQLite uses it only for queries that repeat the condition, or imply it by an equality."""
    where = text(condition)
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_FINAL = _one_of("state", [state.value for state in FINAL_STATES])

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("crew", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("owner", Text),
    Column("due_at", Float),
    Column("expires_at", Float),
    # the request; never changes
    Column("source", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("fingerprint", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("deadline", Float),
    Column("start_by", Float),
    Column("callback_url", Text),
    Column("reply_to", Text),
    Column("correlation_id", Text),
    Column("traceparent", Text),
    Column("signature_digest", String(64)),
    Column("inputs", LargeBinary, nullable=False),
    Column("meta", LargeBinary, nullable=False),
    Column("restore_from", LargeBinary),
    Column("retry_of", String(36)),  # no foreign key, because the old run may be deleted first
    Column("accepted_at", Float, nullable=False),
    # the execution
    Column("attempt", Integer, nullable=False),
    Column("sent_at", Float),
    Column("auto_retries", Integer, nullable=False),
    Column("in_doubt_emitted", Integer, nullable=False),
    Column("kickoff_id", Text),
    Column("unverified", Integer, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("polls", Integer, nullable=False),
    Column("progress", LargeBinary),
    Column("tasks", LargeBinary),
    Column("human_input", LargeBinary),
    Column("deferral", LargeBinary),
    Column("history", LargeBinary),
    Column("result", LargeBinary),
    Column("result_json", LargeBinary),
    Column("usage", LargeBinary),
    Column("error_code", Text),
    Column("error_message", Text),
    CheckConstraint(_one_of("state", list(State)), name="runs_state_known"),
    CheckConstraint(f"({_FINAL}) = (finished_at IS NOT NULL)", name="runs_finished_at_if_final"),
    CheckConstraint(
        "state NOT IN ('running', 'waiting_for_human') OR kickoff_id IS NOT NULL", name="runs_kickoff_id_if_running"
    ),
)

_partial_index(
    "runs_idempotency_key",
    "idempotency_key IS NOT NULL",
    runs.c.idempotency_key,  # first, so that a key is found without its sender and crew
    runs.c.source,
    runs.c.crew,
    unique=True,
)
_partial_index(
    "runs_signature_digest", "signature_digest IS NOT NULL", runs.c.signature_digest, runs.c.source, unique=True
)
_partial_index("runs_fingerprint", "idempotency_key IS NULL", runs.c.fingerprint, runs.c.accepted_at)
Index("runs_due", runs.c.state, runs.c.owner, runs.c.due_at)
OPEN = _one_of("state", [state.value for state in State if state not in FINAL_STATES])
_partial_index("runs_open", OPEN, runs.c.crew, runs.c.state, runs.c.owner, runs.c.due_at)
WAITING = f"state = '{State.ACCEPTED}' AND owner IS NULL"
_partial_index(
    "runs_kickoff_queue", WAITING, runs.c.crew, runs.c.priority.desc(), runs.c.run_id, runs.c.due_at, runs.c.source,
    runs.c.expires_at,
)  # fmt: skip
_partial_index("runs_expiring", f"{WAITING} AND expires_at IS NOT NULL", runs.c.crew, runs.c.expires_at)
_partial_index("runs_crew_budget", "sent_at IS NOT NULL", runs.c.crew, runs.c.sent_at)
OF_CLIENT = "source LIKE 'client/%'"  # budgets apply only to clients, so only their runs are indexed
_partial_index("runs_client_budget", OF_CLIENT, runs.c.source, runs.c.sent_at)
_partial_index("runs_finished_at", "finished_at IS NOT NULL", runs.c.finished_at)
# For lists, newest first: each is read from the end of a range (`queries.run_lists`).
Index("runs_by_state", runs.c.state, runs.c.run_id)
Index("runs_by_crew", runs.c.crew, runs.c.state, runs.c.run_id)
_partial_index("runs_by_source", OF_CLIENT, runs.c.source, runs.c.state, runs.c.run_id, runs.c.crew)
# For searches. Rows without the value have no entry, so that most runs cost nothing. The last two columns of
# `runs_error` only save reading the rows of other crews and senders.
_partial_index("runs_kickoff_id", "kickoff_id IS NOT NULL", runs.c.kickoff_id, runs.c.crew, unique=True)
_partial_index("runs_correlation_id", "correlation_id IS NOT NULL", runs.c.correlation_id, runs.c.run_id)
_partial_index("runs_error", "error_code IS NOT NULL", runs.c.error_code, runs.c.run_id, runs.c.crew, runs.c.source)

run_meta = Table(
    "run_meta",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""The searchable members of `meta`, written once when a run is accepted (`rows.searchable_meta`)."""
Index("run_meta_value", run_meta.c.name, run_meta.c.value, run_meta.c.run_id)

events = Table(
    "events",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("run_id", String(36), ForeignKey("runs.run_id", ondelete="CASCADE")),
    Column("crew", Text),
    Column("correlation_id", Text),
    Column("headers", LargeBinary, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("stored_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
Index("events_run_id", events.c.run_id)
Index("events_created_at", events.c.created_at, events.c.event_id)
Index("events_stored_at", events.c.stored_at, events.c.event_id)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("event_id", Text, ForeignKey("events.event_id", ondelete="CASCADE"), nullable=False),
    Column("crew", Text),  # copied from the event, for lists of a crew
    Column("created_at", Float, nullable=False),  # copied from the event, for the age of the oldest delivery
    Column("channel", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("receiver", Text),
    Column("state", Text, nullable=False),
    Column("owner", Text),
    Column("attempts", Integer, nullable=False),
    Column("earlier_attempts", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("last_error", Text),
    Column("delivered_at", Float),
    CheckConstraint(_one_of("state", list(DeliveryState)), name="deliveries_state_known"),
)
Index("deliveries_event_id", deliveries.c.event_id)
_partial_index(
    "deliveries_due", "state = 'pending' AND owner IS NULL", deliveries.c.channel, deliveries.c.due_at,
    deliveries.c.receiver,
)  # fmt: skip
UNDELIVERED = _one_of("state", [DeliveryState.PENDING.value, DeliveryState.DEAD.value])
_partial_index("deliveries_undelivered", UNDELIVERED, deliveries.c.channel, deliveries.c.state, deliveries.c.created_at)
Index("deliveries_by_state", deliveries.c.state, deliveries.c.delivery_id)
Index("deliveries_by_crew", deliveries.c.crew, deliveries.c.state, deliveries.c.delivery_id)
_partial_index("deliveries_receiver", "receiver IS NOT NULL", deliveries.c.receiver)
_partial_index("deliveries_claimed", "owner IS NOT NULL", deliveries.c.receiver)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("delivery_id", Text, ForeignKey("deliveries.delivery_id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("error", Text),
    Column("code", Integer),
    Column("response", LargeBinary),
)

receivers = Table(
    "receivers",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("failing_since", Float),
    Column("paused_at", Float),
)

pending_commands = Table(
    "pending_commands",
    metadata,
    Column("run_id", String(36), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("sender", Text, nullable=False),
    Column("requested_at", Float, nullable=False),
)

webhook_inbox = Table(
    "webhook_inbox",
    metadata,
    Column("entry_id", Text, primary_key=True),
    Column("crew", Text, nullable=False),
    Column("run_id", String(36), ForeignKey("runs.run_id", ondelete="CASCADE")),
    Column("attempt", Integer, nullable=False),
    Column("kickoff_id", Text),
    Column("kind", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("owner", Text),  # the process that keeps it in memory
)
Index("webhook_inbox_run_id", webhook_inbox.c.run_id)
Index("webhook_inbox_received_at", webhook_inbox.c.received_at, webhook_inbox.c.entry_id)

run_times = Table(
    "run_times",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("crew", Text, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("earliest", Float, nullable=False),
    Column("latest", Float, nullable=False),
    Column("task_marks", LargeBinary, nullable=False),
)
Index("run_times_crew", run_times.c.crew, run_times.c.ended_at)

processes = Table(
    "processes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("heartbeat_at", Float, nullable=False),
)

served_crews = Table(
    "served_crews",
    metadata,
    Column("crew", Text, primary_key=True),
    Column("process", Text, ForeignKey("processes.name", ondelete="CASCADE"), primary_key=True),
)
Index("served_crews_process", served_crews.c.process)

store_metadata = Table(
    "store_metadata",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

COPYING = "copying"
"""The row of `store_metadata` that exists until a copy into this store is complete."""
BACKUP = "backup"
"""The row of `store_metadata` that exists in a backup until a bridge starts on it: when the backup was made."""
