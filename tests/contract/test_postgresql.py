"""PostgreSQL only: limits, poolers, TLS, broken connections, and concurrent processes."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Connection, text

from bridge.adapters.store import SqlStore, database, dialect, group_commit, migrate_store, open_store, probe_store
from bridge.adapters.store.database import open_connections
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.postgresql import LIMITS, Postgresql
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.model import Decision, State
from tests.amqp_client import eventually
from tests.contract.conftest import PostgresqlAdapter, readers
from tests.contract.run_states import accepted, claimed, counts
from tests.contract.test_budgets import statements
from tests.fakes import NOW, a_run, applied, run_id
from tests.patience import PATIENCE
from tests.postgres import PostgresServer, find

STOPPED = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead'"
ROLES = Path(__file__).parents[2] / "deploy" / "scale" / "roles.sh"


@pytest.fixture
async def store(postgresql: PostgresqlAdapter) -> AsyncIterator[SqlStore]:
    async with postgresql.open() as store:
        yield store


@pytest.mark.parametrize("pooler", [False, True])
async def test_every_transaction_has_its_limits(postgresql: PostgresqlAdapter, pooler: bool):
    def limits(connection: Connection) -> dict[str, str]:
        return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in LIMITS}

    base = Postgresql(postgresql.url, pooler=pooler)
    for connections in (base.writer(), base.readers()):
        async with open_connections(connections):
            assert await connections.run(limits) == LIMITS


async def test_behind_a_pooler_no_statement_is_prepared_and_no_setting_outlives_its_transaction(
    postgresql: PostgresqlAdapter,
):
    """The next transaction may use another connection, which has no state of the last one."""
    async with readers(postgresql, pooler=True) as reader:
        for _ in range(12):  # the driver prepares repeated statements
            await reader.run(lambda connection: connection.execute(text("SELECT count(*) FROM runs")))
        with reader.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
            connection.rollback()
            driver: Any = connection.connection.driver_connection
            assert driver.execute("SHOW statement_timeout").fetchone()[0] == "0"


@pytest.mark.parametrize(
    ("url", "asked_for"),
    [
        ("postgresql://u:p@db.example.com/x", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("postgres://u:p@10.0.0.5/x?sslrootcert=/ca.pem", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        ("postgresql://u:p@db.example.com/x?sslmode=disable", {"sslmode": "disable"}),
        ("postgresql://u:p@127.0.0.1/x", {}),
        ("postgresql://u:p@127.0.0.1/x?sslrootcert=/ca.pem", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        ("postgresql://u:p@[::1]/x", {}),
        ("postgresql://u:p@localhost/x", {}),
        ("postgresql:///x?host=/run/postgresql", {"host": "/run/postgresql"}),
        ("postgresql://u:p@[::1],localhost:1/x", {"host": "::1,localhost", "port": "5432,1"}),
        (
            "postgresql://u:p@db_1:5433,10.0.0.5/x?target_session_attrs=read-write",
            {
                "host": "db_1,10.0.0.5",
                "port": "5433,5432",
                "target_session_attrs": "read-write",
                "sslmode": "verify-full",
                "sslrootcert": "system",
            },
        ),
    ],
)
def test_a_remote_server_must_prove_its_identity(url: str, asked_for: dict[str, str]):
    assert dict(Postgresql(url).url.query) == asked_for


@pytest.mark.parametrize("hosts", ["127.0.0.1:1,127.0.0.1:{port}", "127.0.0.1:{port},127.0.0.1:1"])
async def test_the_first_of_several_hosts_that_can_write_is_used(postgresql: PostgresqlAdapter, hosts: str):
    address = urlsplit(postgresql.url)
    several = postgresql.url.replace(f"127.0.0.1:{address.port}", hosts.format(port=address.port))
    assert (await probe_store(f"{several}?target_session_attrs=read-write")).ok


async def test_a_server_without_tls_is_refused_if_tls_is_required(postgresql: PostgresqlAdapter):
    with pytest.raises(StoreUnavailable, match="SSL"):
        async with open_store(database(f"{postgresql.url}?sslmode=verify-full&sslrootcert=system"), "me", NOW):
            pass


async def test_an_unreachable_server_is_reported_in_one_line_without_the_password():
    with pytest.raises(StoreUnavailable) as caught:
        async with open_store(database("postgresql://bridge:hunter2@127.0.0.1:1/x"), "me", NOW):
            pass
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_failure_of_several_hosts_names_each_of_them():
    """Only that of the last host was shown, which may be a standby."""
    health = await probe_store("postgresql://bridge@127.0.0.1:1,127.0.0.1:2/x")
    assert [f"port {port} failed: Connection refused" in health.detail for port in (1, 2)] == [True, True]
    assert "\n" not in health.detail


async def test_broken_connections_under_load_lose_nothing(postgresql: PostgresqlAdapter, store: SqlStore):
    async def retry_until_available(number: int) -> None:
        while True:
            try:
                await store.accept(a_run(number, idempotency_key=f"k-{number}"))
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return

    writing = [asyncio.create_task(retry_until_available(number)) for number in range(1, 301)]
    for _ in range(5):
        await asyncio.wait(writing, timeout=0.02, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(postgresql.server.end_connections, postgresql.database)
    await asyncio.gather(*writing)
    assert (await _counts_once_available(store))["runs"] == {"accepted": 300}


async def _counts_once_available(store: SqlStore) -> dict[str, Counter[str]]:
    while True:
        try:
            return await counts(store)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def test_a_process_suspended_in_a_transaction_holds_no_locks_against_live_ones(
    postgresql: PostgresqlAdapter, store: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    """To the server it is active and not idle, so it kept its locks as long as it was suspended."""
    monkeypatch.setattr(dialect, "IDLE_TRANSACTION_LIMIT", 0.0)
    with pytest.raises(psycopg.OperationalError):
        await suspend_while_others_send_heartbeats(postgresql, store)


async def suspend_while_others_send_heartbeats(postgresql: PostgresqlAdapter, store: SqlStore) -> None:
    """Hold a lock without announcing the end of the sequence of commands."""
    stopped = await psycopg.AsyncConnection.connect(postgresql.url, application_name=dialect.APPLICATION)
    async with stopped, stopped.pipeline():
        await stopped.execute("UPDATE processes SET heartbeat_at = 0 WHERE name = 'me'")
        stopped.pgconn.send_flush_request()
        stopped.pgconn.flush()
        await eventually(lambda: postgresql.execute(STOPPED))
        await store.cluster.heartbeat(NOW)


async def test_a_lock_timeout_is_a_transient_error(postgresql: PostgresqlAdapter, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(LIMITS, "lock_timeout", "50ms")
    async with postgresql.open() as store, readers(postgresql) as others:
        run = await accepted(store)
        with others.engine.begin() as other:
            other.execute(text("LOCK TABLE runs"))
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                await store.accept(a_run(2))
        assert (await store.load(run.run_id)) == run


async def test_deadlocked_transactions_are_repeated(postgresql: PostgresqlAdapter, store: SqlStore):
    """PostgreSQL aborts one of the two; no caller receives an error."""
    await accepted(store, 1)
    await accepted(store, 2)
    met, tries = threading.Barrier(2, timeout=PATIENCE), 0

    def both(connection: Connection, order: Any) -> list[None]:
        nonlocal tries
        tries += 1
        first, second = order[0]
        update = "UPDATE runs SET polls = polls + 1 WHERE run_id = :run_id"
        connection.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
        connection.execute(text(update), {"run_id": run_id(first)})
        if tries <= 2:
            met.wait()
        connection.execute(text(update), {"run_id": run_id(second)})
        return [None]

    base = Postgresql(postgresql.url)
    async with open_connections(base.writer()) as one, open_connections(base.writer()) as other:
        await asyncio.gather(Batches(one.run).write(both, (1, 2)), Batches(other.run).write(both, (2, 1)))
    assert tries > 2
    assert postgresql.execute("SELECT polls FROM runs") == [(2,), (2,)]


async def test_two_processes_may_open_an_empty_database_at_the_same_time(postgresql: PostgresqlAdapter):
    postgresql.empty()

    async def key(name: str) -> bytes:
        async with postgresql.open(name) as store:
            return store.key

    first, second = await asyncio.gather(key("one"), key("two"))
    assert first == second


async def test_a_process_that_starts_during_a_long_migration_waits_for_it(
    postgresql: PostgresqlAdapter, monkeypatch: pytest.MonkeyPatch
):
    """Its lock timeout does not apply: after 5 s the process was refused, and its pod failed."""
    monkeypatch.setitem(LIMITS, "lock_timeout", "50ms")
    async with readers(postgresql) as others:
        migrating = others.engine.connect()
        Postgresql(postgresql.url).check(migrating)
        starting = asyncio.create_task(migrate_store(postgresql.url))
        held_up = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND query_start < now() - interval '0.1 s'"
        )
        await eventually(lambda: bool(postgresql.execute(held_up)) or starting.done())
        migrating.close()
        await starting


async def test_the_lock_timeout_applies_again_during_a_migration(postgresql: PostgresqlAdapter):
    def limit(connection: Connection) -> str:
        Postgresql(postgresql.url).check(connection)
        return str(connection.execute(text("SHOW lock_timeout")).scalar_one())

    async with readers(postgresql) as reader:
        assert await reader.run(limit) == LIMITS["lock_timeout"]


async def test_a_probe_of_an_empty_database_says_that_its_schema_will_be_created(postgresql: PostgresqlAdapter):
    assert (await probe_store(postgresql.url)).ok
    postgresql.empty()
    health = await probe_store(postgresql.url)
    assert health.ok
    assert health.detail.startswith("empty; `run` creates its schema")
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql.execute(tables) == [(0,)], "nothing was created"


async def test_a_probe_of_an_empty_database_fails_for_a_role_that_may_not_create_tables(postgresql: PostgresqlAdapter):
    postgresql.empty()
    name = f"rows_{postgresql.database}"
    postgresql.execute(f"CREATE ROLE {name} LOGIN")
    health = await probe_store(postgresql.server.url(postgresql.database, name))
    assert not health.ok
    assert health.detail.endswith("run `migrate`, with a role that may create tables")


async def test_a_role_that_may_only_change_rows_is_enough_after_the_migration(postgresql: PostgresqlAdapter):
    """With the grants of the manual."""
    name = f"app_{postgresql.database}"
    for statement in (
        f"CREATE ROLE {name} LOGIN",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
    ):
        postgresql.execute(statement)
    async with open_store(
        database(postgresql.server.url(postgresql.database, name)), "me", NOW, migrate=False
    ) as store:
        await claimed(store)
        assert await store.claim({State.STARTING}, {"research"}, 9) == []
    postgresql.execute(f"DROP OWNED BY {name}")
    postgresql.execute(f"DROP ROLE {name}")


async def test_the_roles_of_the_composed_database_are_enough(postgres: PostgresServer):
    """deploy/scale/roles.sh as the image runs it: one role creates the tables, the other may only change rows."""
    environment = {
        "PATH": f"{Path(find('psql')).parent}:/usr/bin:/bin",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "POSTGRES_USER": "bridge",
        "BRIDGE_OWNER_PASSWORD": "it's a secret",
        "BRIDGE_APP_PASSWORD": "another",
    }
    script = await asyncio.create_subprocess_exec(str(ROLES), env=environment, stdout=asyncio.subprocess.DEVNULL)
    assert await script.wait() == 0
    with pytest.raises(StoreUnavailable):
        await migrate_store(postgres.url("bridge", "bridge_app"))
    await migrate_store(postgres.url("bridge", "bridge_owner"))
    async with open_store(database(postgres.url("bridge", "bridge_app")), "me", NOW, migrate=False) as store:
        await claimed(store)


async def test_writes_wait_while_the_database_restarts(
    postgresql: PostgresqlAdapter, store: SqlStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.02)
    run = await claimed(store)
    await asyncio.to_thread(postgresql.server.stop)
    writing = asyncio.create_task(applied(store, Decision(run)))
    await asyncio.to_thread(postgresql.server.start)
    assert (await writing).state is State.STARTING


async def test_the_crews_of_one_transaction_are_locked_in_one_order(store: SqlStore):
    """Otherwise two processes that claim for two crews would wait for each other."""
    with statements() as seen:
        crews = ("writers", "research", "writers")
        await asyncio.gather(*(store.claim_accepted(crew, 9, 9, NOW) for crew in crews))
    locked = [next(iter(parameters.values())) for sql, parameters in seen if "pg_advisory_xact_lock" in sql]
    assert locked == ["slots:research", "slots:writers"]
