"""A PostgreSQL database: pools, time limits, TLS by default, and the switch for poolers in transaction mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError

from bridge.adapters.store.connections import Connections
from bridge.adapters.store.dialect import APPLICATION
from bridge.adapters.store.errors import driver_message
from bridge.core.addresses import is_loopback
from bridge.core.errors import BridgeError, StoreDamaged, StoreMisconfigured, StoreUnavailable
from bridge.ports.lifecycle import Health

CONNECT_TIMEOUT = 5  # seconds
READERS = 4  # connections, beside the one that writes
LIMITS = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}
"""So that nothing of ours, not even a process that was stopped in the middle of a transaction, holds up the others.

The others do not wait that long while one of them lives: `dialect.end_idle_sessions`.
"""
SESSION = LIMITS | {
    "synchronous_commit": "on",
    "extra_float_digits": "1",
}
"""What every session needs, whatever is set for the database, the role, or in the URL.

Without synchronous commits, a crash of the server takes back what was confirmed, such as a `starting`: the execution
would be paid twice. With fewer digits, times come back as other times than those that were stored.
"""
_UNLIMITED = {"idle_session_timeout": 14, "transaction_timeout": 17}
"""Limits that end sessions which are in order, and the major version that has them first."""
_DURABILITY = ("fsync", "full_page_writes")
"""What only the server's operator can change."""
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

    def tracked(self) -> None:
        """Nothing to watch: files are the server's."""

    def verify(self) -> None:
        """Nothing is watched."""

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

    def caveat(self, connection: Connection) -> str | None:
        """Return what makes confirmed writes less durable than they should be."""
        settings = ((name, connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in _DURABILITY)
        off = [name for name, value in settings if value == "off"]
        if not off:
            return None
        return f"the server runs with {' and '.join(off)} off: a power failure can lose or damage confirmed writes"

    def refusal(self, error: DatabaseError) -> BridgeError:
        """What an error at opening means."""
        if getattr(error.orig, "sqlstate", None) in _DATA_CORRUPTED:
            return StoreDamaged(f"the store is damaged: {driver_message(error)}")
        return StoreUnavailable(f"the store cannot be opened: {driver_message(error)}")

    def _connections(self, number: int) -> Connections:
        engine = create_engine(
            self._url.set(drivername="postgresql+psycopg"),
            pool_size=number,
            max_overflow=0,
            hide_parameters=True,
            isolation_level="READ COMMITTED",  # counting behind a lock must see what was committed before
            connect_args=self._connect_args(),
        )
        event.listen(engine, "connect", self._check_session)
        if self._pooler:
            event.listen(engine, "begin", _set_for_transaction)
        return Connections(engine, number)

    def _connect_args(self) -> dict[str, Any]:
        """A pooler knows neither named statements nor options of a session; then both go with each transaction."""
        args: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT,
            "client_encoding": "utf8",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        if self._pooler:
            return args | {"prepare_threshold": None}
        wanted = self._url.query.get("options", "")
        options = [wanted if isinstance(wanted, str) else " ".join(wanted)]
        options += [f"-c {name}={value}" for name, value in SESSION.items()]
        return args | {"options": " ".join(options), "application_name": APPLICATION}

    def _check_session(self, session: psycopg.Connection[Any], _: Any) -> None:
        """Refuse a new session that lacks what we need; raises `StoreMisconfigured`."""
        session.autocommit = True
        try:
            _check_encoding(session)
            if not self._pooler:
                _check_settings(session)
                for name, since in _UNLIMITED.items():
                    if session.info.server_version >= since * 10_000:
                        session.execute(f"SET {name} = 0".encode())
        finally:
            session.autocommit = False


def _set_for_transaction(connection: Connection) -> None:
    """What a session cannot keep behind a pooler, where the next transaction may use another one."""
    version = int((connection.dialect.server_version_info or (0,))[0])
    unlimited = {name: "0" for name, since in _UNLIMITED.items() if version >= since}
    settings = SESSION | unlimited | {"client_encoding": "UTF8", "application_name": APPLICATION}
    connection.exec_driver_sql("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()))


def _check_encoding(session: psycopg.Connection[Any]) -> None:
    found = session.execute("SELECT current_setting('server_encoding')").fetchone()
    encoding = found[0] if found else None
    if encoding != "UTF8":
        raise StoreMisconfigured(
            f"the database's encoding is {encoding}, UTF8 is needed: create a database with ENCODING 'UTF8'"
        )


def _check_settings(session: psycopg.Connection[Any]) -> None:
    for name, wanted in SESSION.items():
        found = session.execute("SELECT current_setting(%s)", (name,)).fetchone()
        if found is None or found[0] != wanted:
            raise StoreMisconfigured(
                f"sessions have {name}={found and found[0]}, {wanted} is needed, and something on the way to the "
                "database drops the options of a session: if that is a connection pooler, set `store.pooler: true`"
            )


def _with_tls(url: URL) -> URL:
    """Beyond this machine the server must prove who it is, unless the URL says otherwise."""
    if "sslmode" in url.query or _is_local(url):
        return url
    roots = {} if "sslrootcert" in url.query else {"sslrootcert": "system"}
    return url.update_query_dict({"sslmode": "verify-full", **roots})


def _is_local(url: URL) -> bool:
    host = str(url.query.get("host", url.host or ""))
    return not host or host.startswith("/") or is_loopback(host)
