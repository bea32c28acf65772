"""Statements and expressions that differ between SQLite and PostgreSQL."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Insert, Table, cast, func, literal, select, text
from sqlalchemy.dialects import postgresql, sqlite

APPLICATION = "kickoff-bridge"
"""The `application_name` of the bridge's sessions."""

IDLE_TRANSACTION_LIMIT = 5.0  # seconds between two commands of a transaction; a live process needs milliseconds
_END_IDLE = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name = :application"
    " AND state <> 'idle' AND wait_event = 'ClientRead'"
    " AND state_change < clock_timestamp() - make_interval(secs => :after)"
)


def insert_or_ignore(connection: Connection, table: Table) -> Insert:
    """Return an INSERT … ON CONFLICT DO NOTHING."""
    dialect: Any = postgresql if is_postgresql(connection) else sqlite
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


def insert_or_replace(connection: Connection, table: Table) -> Insert:
    """Return an INSERT that replaces all other columns if the primary key exists."""
    dialect: Any = postgresql if is_postgresql(connection) else sqlite
    insert = dialect.insert(table)
    key = list(table.primary_key.columns)
    others = {column.name: insert.excluded[column.name] for column in table.columns if column not in key}
    statement: Insert = insert.on_conflict_do_update(index_elements=key, set_=others)
    return statement


def clock(connection: Connection, now: float) -> ColumnElement[float]:
    """Return the clock for heartbeats: the database's where processes share it, otherwise this process's `now`.

    It is not the start time of the transaction, which may have waited for locks since.
    """
    if is_postgresql(connection):
        return cast(func.extract("epoch", func.clock_timestamp()), Float)
    return literal(now)


def storage_time(
    connection: Connection, made_at: ColumnElement[float], earliest: ColumnElement[float]
) -> ColumnElement[float]:
    """Return the time at which a row is stored, at least `earliest`; by the database's clock where processes share it.

    SQLite has a single writer, so the time at which the content was created is sufficient for the order.
    """
    if is_postgresql(connection):
        return func.greatest(clock(connection, 0.0), earliest)
    return func.max(made_at, earliest)


def serialize(connection: Connection, *names: str) -> None:
    """Lock these names until the transaction ends, so that transactions with the same names are serialized.

    SQLite has a single writer and needs no lock. The lock belongs to the transaction, because a pooler in transaction
    mode permits no other; names with the same hash merely wait for each other.
    """
    if is_postgresql(connection):
        key = func.hashtextextended(":".join(names), 0)
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def end_idle_sessions(connection: Connection) -> None:
    """Terminate sessions of bridge processes that were stopped in the middle of a transaction, because they hold locks.

    The server's timeout for idle transactions does not apply while it waits for the rest of a pipeline of commands.
    """
    if is_postgresql(connection):
        connection.execute(_END_IDLE, {"application": APPLICATION, "after": IDLE_TRANSACTION_LIMIT})


def is_postgresql(connection: Connection) -> bool:
    """Return whether the connection is one to PostgreSQL."""
    return connection.dialect.name == "postgresql"
