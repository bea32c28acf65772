"""A PostgreSQL database: connections, timeouts, TLS by default, and support for poolers in transaction mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError

from bridge.adapters.store.connections import Connections
from bridge.adapters.store.dialect import APPLICATION
from bridge.adapters.store.errors import driver_message
from bridge.core.addresses import is_loopback
from bridge.core.errors import BridgeError, StoreDamaged, StoreMisconfigured, StoreUnavailable
from bridge.ports.lifecycle import Health

CONNECT_TIMEOUT = 5  # seconds, for each host
DEFAULT_PORT = 5432
READERS = 4  # connections, in addition to the writer
LIMITS = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}
"""Timeouts that keep one process, even one stopped in the middle of a transaction, from blocking the others.

While another process lives, it terminates such sessions earlier: `dialect.end_idle_sessions`.
"""
SESSION = LIMITS | {
    "synchronous_commit": "on",
    "extra_float_digits": "1",
}
"""Settings that every session requires, regardless of those of the database, the role, or the URL.

Without synchronous commits, a crash of the server can undo confirmed writes, such as a `starting`: the execution would
be paid for twice. With fewer digits, times are not read as they were stored.
"""
_UNLIMITED = {"idle_session_timeout": 14, "transaction_timeout": 17}
"""Timeouts that would end healthy sessions, and the major versions that introduced them; they are disabled."""
_DURABILITY = ("fsync", "full_page_writes")
"""Durability settings that only the operator of the server can change."""
_DATA_CORRUPTED = frozenset({"XX001", "XX002"})


class Postgresql:
    """Implements `database.Database` for many processes. `pooler`: a pooler in transaction mode is in between."""

    shared = True

    def __init__(self, url: str, *, pooler: bool = False) -> None:
        self.url = _with_tls(_url(url.replace("postgres://", "postgresql://", 1)))
        self._pooler = pooler

    def writer(self) -> Connections:
        """Return one connection: batches are committed one after another."""
        return self._connections(1)

    def readers(self) -> Connections:
        """Return connections other than the writer, so that readers never delay it."""
        return self._connections(READERS)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection on which every query reads the same state of the database, as long as it may take."""
        engine = self._engine(1)
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                yield connection
        finally:
            engine.dispose()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Do nothing: processes share the database."""
        yield

    def watch_files(self) -> None:
        """Do nothing: the files belong to the server."""

    def verify(self) -> None:
        """Do nothing: no file is watched."""

    def health_if_missing(self) -> Health | None:
        """Return None: only connecting shows whether the database exists."""
        return None

    def check(self, connection: Connection) -> None:
        """Serialize access to the schema among processes, and disable the statement timeout for a migration.

        Others wait without a lock timeout; the migration itself has one for locks on tables.
        """
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtextextended('kickoff-bridge:schema', 0))")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LIMITS['lock_timeout']}'")

    def durability_problem(self, connection: Connection) -> str | None:
        """Return what makes confirmed writes less durable than they should be."""
        settings = ((name, connection.exec_driver_sql(f"SHOW {name}").scalar_one()) for name in _DURABILITY)
        off = [name for name, value in settings if value == "off"]
        if not off:
            return None
        return f"the server runs with {' and '.join(off)} off: a power failure can lose or damage confirmed writes"

    def may_create_tables(self, connection: Connection) -> bool:
        """Return whether the role may create tables in its schema."""
        query = "SELECT has_schema_privilege(current_schema(), 'CREATE')"
        return bool(connection.exec_driver_sql(query).scalar_one())

    def opening_error(self, error: DatabaseError) -> BridgeError:
        """Convert an error at opening."""
        if getattr(error.orig, "sqlstate", None) in _DATA_CORRUPTED:
            return StoreDamaged(f"the store is damaged: {driver_message(error)}")
        message = driver_message(error)
        remedy = "; name the authority that signed it as sslrootcert in store.url" if "SSL error" in message else ""
        return StoreUnavailable(f"the store cannot be opened: {message}{remedy}")

    def _connections(self, number: int) -> Connections:
        return Connections(self._engine(number), number)

    def _engine(self, number: int) -> Engine:
        engine = create_engine(
            self.url.set(drivername="postgresql+psycopg"),
            pool_size=number,
            max_overflow=0,
            hide_parameters=True,
            isolation_level="READ COMMITTED",  # a count behind a lock must see what was committed before
            connect_args=self._connect_args(),
        )
        event.listen(engine, "connect", self._check_session)
        if self._pooler:
            event.listen(engine, "begin", _set_for_transaction)
        return engine

    def _connect_args(self) -> dict[str, Any]:
        """Return connection parameters; a pooler supports neither prepared statements nor session options."""
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
        given = self.url.query.get("options", "")
        options = [given if isinstance(given, str) else " ".join(given)]
        options += [f"-c {name}={value}" for name, value in SESSION.items()]
        return args | {"options": " ".join(options), "application_name": APPLICATION}

    def _check_session(self, session: psycopg.Connection[Any], _: Any) -> None:
        """Check and configure a new session; raises `StoreMisconfigured`."""
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
    """Configure a transaction behind a pooler, where the next one may use another session."""
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
    for name, required in SESSION.items():
        found = session.execute("SELECT current_setting(%s)", (name,)).fetchone()
        if found is None or found[0] != required:
            raise StoreMisconfigured(
                f"sessions have {name}={found and found[0]}, {required} is needed: something between the bridge "
                "and the database drops session options; if it is a connection pooler, set `store.pooler: true`"
            )


def _url(text: str) -> URL:
    """Return the URL, with several hosts (`h1:5432,h2`, as in libpq) in the query, where the library reads them."""
    authority = text.partition("://")[2].partition("/")[0]
    user, at, hosts = authority.rpartition("@")
    if "," not in hosts:
        return make_url(text)
    parts = [urlsplit(f"//{host}") for host in hosts.split(",")]
    names = ",".join(str(part.hostname) for part in parts)
    ports = ",".join(str(part.port or DEFAULT_PORT) for part in parts)
    return make_url(text.replace(authority, user + at, 1)).update_query_dict({"host": names, "port": ports})


def _with_tls(url: URL) -> URL:
    """Require a verified certificate of a remote server, or if the URL has `sslrootcert`; unless it sets `sslmode`."""
    if "sslmode" in url.query or (_is_local(url) and "sslrootcert" not in url.query):
        return url
    roots = {} if "sslrootcert" in url.query else {"sslrootcert": "system"}
    return url.update_query_dict({"sslmode": "verify-full", **roots})


def _is_local(url: URL) -> bool:
    host = str(url.query.get("host", url.host or ""))
    return not host or host.startswith("/") or all(is_loopback(one) for one in host.split(","))
