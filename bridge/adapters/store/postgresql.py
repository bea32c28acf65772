"""A PostgreSQL database: pools, time limits, TLS by default, and the switch for poolers in transaction mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError

from bridge.adapters.store.dialect import APPLICATION
from bridge.adapters.store.threads import Connections
from bridge.adapters.store.weather import words
from bridge.core.addresses import is_loopback
from bridge.core.errors import BridgeError, StoreDamaged, StoreUnavailable
from bridge.ports import Health

CONNECT_TIMEOUT = 5  # seconds
READERS = 4  # connections, beside the one that writes
LIMITS = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}
"""So that nothing of ours, not even a process that was stopped in the middle of a transaction, holds up the others.

The others do not wait that long while one of them lives: `dialect.end_stopped_sessions`.
"""
_DATA_CORRUPTED = frozenset({"XX001", "XX002"})


class Postgresql:
    """`engine.Database` for many processes. `pooler`: between us and it stands one that hands out transactions."""

    shared = True

    def __init__(self, url: str, *, pooler: bool = False) -> None:
        self._url = _with_tls(make_url(url.replace("postgres://", "postgresql://", 1)))
        self._pooler = pooler

    def writer(self) -> Connections:
        """One connection: writes are committed in batches, one after the other."""
        return self._connections(1)

    def readers(self) -> Connections:
        """Apart from the writer, so that no number of readers keeps it waiting."""
        return self._connections(READERS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing to hold: processes share the database."""
        yield

    def absent(self) -> Health | None:
        """Only asking tells."""
        return None

    def check(self, connection: Connection) -> None:
        """Let one process at a time look at the schema, and give a migration the time it needs.

        The others wait for it, so until then no limit of locks holds; a migration itself has one for those of tables.
        """
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('kickoff-bridge:schema', 0))")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LIMITS['lock_timeout']}'")

    def refusal(self, error: DatabaseError) -> BridgeError:
        """What an error at opening means."""
        if getattr(error.orig, "sqlstate", None) in _DATA_CORRUPTED:
            return StoreDamaged(f"the store is damaged: {words(error)}")
        return StoreUnavailable(f"the store cannot be opened: {words(error)}")

    def _connections(self, number: int) -> Connections:
        engine = create_engine(
            self._url.set(drivername="postgresql+psycopg"),
            pool_size=number,
            max_overflow=0,
            hide_parameters=True,
            connect_args=self._connect_args(),
        )
        if self._pooler:
            session = LIMITS | {"application_name": APPLICATION}
            statement = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in session.items())
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(statement))
        return Connections(engine, number)

    def _connect_args(self) -> dict[str, Any]:
        """A pooler knows neither named statements nor options of a session; then both go with each transaction."""
        args: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        if self._pooler:
            return args | {"prepare_threshold": None}
        options = " ".join(f"-c {name}={value}" for name, value in LIMITS.items())
        return args | {"options": options, "application_name": APPLICATION}


def _with_tls(url: URL) -> URL:
    """Beyond this machine the server must prove who it is, unless the URL says otherwise."""
    if "sslmode" in url.query or _is_local(url):
        return url
    roots = {} if "sslrootcert" in url.query else {"sslrootcert": "system"}
    return url.update_query_dict({"sslmode": "verify-full", **roots})


def _is_local(url: URL) -> bool:
    host = str(url.query.get("host", url.host or ""))
    return not host or host.startswith("/") or is_loopback(host)
