"""The expressions that SQLite and PostgreSQL write differently."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Insert, Table, cast, func, literal, select, text
from sqlalchemy.dialects import postgresql, sqlite

APPLICATION = "kickoff-bridge"
"""What our sessions are called in the database."""

IDLE_TRANSACTION_LIMIT = (
    5.0  # seconds that a transaction waits for its next command, which takes a living process a moment
)
_END_IDLE = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name = :application"
    " AND state <> 'idle' AND wait_event = 'ClientRead'"
    " AND state_change < clock_timestamp() - make_interval(secs => :after)"
)


def insert_new(connection: Connection, table: Table) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING, which both have, each under its own name."""
    dialect: Any = postgresql if _is_postgresql(connection) else sqlite
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement


def insert_or_replace(connection: Connection, table: Table) -> Insert:
    """INSERT, and where the primary key is there already, every other column takes the new value."""
    dialect: Any = postgresql if _is_postgresql(connection) else sqlite
    insert = dialect.insert(table)
    key = list(table.primary_key.columns)
    others = {column.name: insert.excluded[column.name] for column in table.columns if column not in key}
    statement: Insert = insert.on_conflict_do_update(index_elements=key, set_=others)
    return statement


def clock(connection: Connection, now: float) -> ColumnElement[float]:
    """The time that signs of life are measured by: with many processes the database's own, else this process's `now`.

    Not the time at which the transaction began, which may have waited for locks since.
    """
    if _is_postgresql(connection):
        return cast(func.extract("epoch", func.clock_timestamp()), Float)
    return literal(now)


def moment_of_storing(
    connection: Connection, made_at: ColumnElement[float], earliest: ColumnElement[float]
) -> ColumnElement[float]:
    """When a row is stored, `earliest` at the earliest: with many processes by the database's clock.

    SQLite has one writer, so there the order is all that counts, and the moment at which its content was made will do.
    """
    if _is_postgresql(connection):
        return func.greatest(clock(connection, 0.0), earliest)
    return func.max(made_at, earliest)


def serialize(connection: Connection, *names: str) -> None:
    """Keep other transactions with the same names from passing this point until this one ends.

    SQLite has one writer anyway. The lock belongs to the transaction, which is all that a pooler in transaction mode
    permits; two names that share a hash only wait for each other.
    """
    if _is_postgresql(connection):
        key = func.hashtextextended(":".join(names), 0)
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def end_idle_sessions(connection: Connection) -> None:
    """End our sessions whose process stopped in the middle of a transaction: they hold locks.

    The server's own limit for idle transactions does not see those that it expects more commands of, and leaves locks
    with one stopped process after the other.
    """
    if _is_postgresql(connection):
        connection.execute(_END_IDLE, {"application": APPLICATION, "after": IDLE_TRANSACTION_LIMIT})


def _is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
