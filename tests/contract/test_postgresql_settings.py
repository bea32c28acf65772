"""PostgreSQL settings of a database, role, or environment that would break promises: overridden, or refused by name."""

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from bridge.adapters.store import SqlStore, database, migrate_store, open_store, probe_store
from bridge.adapters.store.copy import copy_store
from bridge.adapters.store.database import open_connections
from bridge.adapters.store.postgresql import Postgresql
from bridge.core.errors import StoreMisconfigured, StoreUnavailable
from bridge.core.runs.model import State
from bridge.sandbox import SandboxSettings, running
from tests.contract.conftest import PostgresqlAdapter
from tests.contract.run_states import accepted, started
from tests.fakes import NOW, a_run
from tests.postgres import PostgresServer

HOSTILE = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "repeatable read",
    "extra_float_digits": "-10",
    "client_encoding": "latin1",
    "statement_timeout": "2s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "2s",
    "idle_session_timeout": "1min",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "lc_messages": "C",
}
NEEDED = {
    "synchronous_commit": "on",
    "transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
}
ENCODINGS = ["LATIN1", "SQL_ASCII"]


@pytest.fixture
def hostile(postgresql: PostgresqlAdapter) -> PostgresqlAdapter:
    for name, value in HOSTILE.items():
        postgresql.server.execute(f"ALTER DATABASE {postgresql.database} SET {name} = '{value}'")
    return postgresql


@pytest.fixture(params=ENCODINGS)
def encoded(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[PostgresqlAdapter]:
    """An empty database in an encoding other than UTF-8."""
    name = f"encoded_{request.param.lower()}"
    encoding = f"ENCODING '{request.param}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    postgres.execute(f"CREATE DATABASE {name} {encoding}")
    yield PostgresqlAdapter(postgres, name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("pooler", [False, True])
async def test_settings_of_the_database_do_not_reach_transactions(hostile: PostgresqlAdapter, pooler: bool):
    needed = (
        NEEDED if pooler else NEEDED | {"idle_session_timeout": "0"}
    )  # behind a pooler, sessions belong to the pooler

    def found(connection: Connection) -> dict[str, str]:
        return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in needed}

    base = Postgresql(hostile.url, pooler=pooler)
    for connections in (base.writer(), base.readers()):
        async with open_connections(connections):
            assert await connections.run(found) == needed


@pytest.mark.parametrize("pooler", [False, True])
async def test_settings_in_the_url_do_not_weaken_those_of_the_bridge_and_are_kept_otherwise(
    postgresql: PostgresqlAdapter, pooler: bool
):
    """The options of a session replaced those of the URL, so that a schema named there was ignored."""
    postgresql.execute("CREATE SCHEMA elsewhere")
    options = "-c%20synchronous_commit%3Doff%20-c%20search_path%3Delsewhere"
    base = Postgresql(f"{postgresql.url}?client_encoding=latin1&options={options}", pooler=pooler)
    names = ("synchronous_commit", "search_path", "client_encoding")
    async with open_connections(base.writer()) as writer:
        found = await writer.run(lambda connection: [connection.exec_driver_sql(f"SHOW {n}").scalar() for n in names])
    assert found == ["on", "elsewhere", "UTF8"]


@pytest.mark.parametrize("pooler", [False, True])
async def test_a_store_works_with_any_settings_of_its_database(
    hostile: PostgresqlAdapter, monkeypatch: pytest.MonkeyPatch, pooler: bool
):
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    moment = 1_800_000_000.123456
    async with open_store(database(hostile.url, pooler=pooler), "me", NOW) as store:
        run = await started(store)
        other = replace(a_run(2, idempotency_key="Москва"), accepted_at=moment)
        await store.accept(other)
        stored = await store.load(other.run_id)
    assert stored is not None
    assert stored.accepted_at == moment
    assert stored.request.idempotency_key == "Москва"
    assert run.state is State.RUNNING


@pytest.fixture
async def delayed_commits() -> AsyncIterator[PostgresServer]:
    """A server that writes asynchronous commits to disk long after their confirmation."""
    server = PostgresServer(wal_writer_delay="10s", bgwriter_delay="10s", max_connections="20")
    await asyncio.to_thread(server.start)
    server.execute("CREATE DATABASE store")
    server.execute("ALTER DATABASE store SET synchronous_commit = off")
    yield server
    await asyncio.to_thread(server.remove)


@pytest.mark.parametrize("pooler", [False, True])
async def test_confirmed_writes_survive_a_crash_although_the_database_commits_asynchronously(
    delayed_commits: PostgresServer, pooler: bool
):
    """One of 145 executions was started twice: the server crashed after it had confirmed `starting`."""
    url = delayed_commits.url("store")
    with suppress(StoreUnavailable):  # its claims cannot be released at the end: the server is gone
        async with open_store(database(url, pooler=pooler), "me", NOW) as store:
            for number in range(1, 21):
                await accepted(store, number)
            await asyncio.to_thread(delayed_commits.kill)
    await asyncio.to_thread(delayed_commits.start)
    assert delayed_commits.execute("SELECT count(*) FROM runs", database="store") == [(20,)]


async def test_an_encoding_other_than_utf8_is_refused_in_one_sentence(
    encoded: PostgresqlAdapter, postgresql: PostgresqlAdapter
):
    async def opening() -> None:
        async with open_store(database(encoded.url), "me", NOW):
            pass

    async def copying() -> None:
        await copy_store(postgresql.url, encoded.url, lambda *_: None)

    for attempt in (opening(), migrate_store(encoded.url), copying()):
        with pytest.raises(StoreMisconfigured, match=r"^the database's encoding is .*, UTF8 is needed: .*$"):
            await attempt
    health = await probe_store(encoded.url)
    assert not health.ok
    assert "UTF8 is needed" in health.detail


@pytest.mark.parametrize("encoded", ENCODINGS[:1], indirect=True)
@pytest.mark.parametrize(
    ("command_line", "code", "message"),
    [
        (["migrate"], 78, r"^the database's encoding is \w+, UTF8 is needed: create .*$"),
        (["run"], 78, r"^the database's encoding is \w+, UTF8 is needed: create .*$"),
        (["check", "--connect"], 69, r"^store: failed: the database's encoding is \w+, UTF8 is needed: create .*$"),
    ],
)
def test_the_commands_refuse_other_encodings(
    encoded: PostgresqlAdapter, tmp_path: Path, command_line: list[str], code: int, message: str
):
    """`check --connect` ended with a `TypeError`."""
    crews = {"research": {"url": "http://127.0.0.1:1", "token": "t"}}
    config = tmp_path / "bridge.yaml"
    config.write_text(json.dumps({"http": {"port": 0}, "store": {"url": encoded.url}, "crews": crews}))
    command = [sys.executable, "-m", "bridge", *command_line, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert re.search(message, done.stdout + done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


async def test_check_accepts_an_empty_database_that_run_will_migrate(postgresql: PostgresqlAdapter, tmp_path: Path):
    """`check --connect` ended with 69 where the next command, `run`, works."""
    postgresql.empty()
    async with running(SandboxSettings()) as crew_url:
        crews = {"research": {"url": crew_url, "token": "sandbox-token"}}
        config = tmp_path / "bridge.yaml"
        config.write_text(json.dumps({"http": {"port": 0}, "store": {"url": postgresql.url}, "crews": crews}))
        command = [sys.executable, "-m", "bridge", "check", "--connect", "--config", str(config)]
        check = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        shown, _ = await check.communicate()
    assert check.returncode == 0, shown
    assert b"store: ok: empty; `run` creates its schema" in shown


async def test_texts_in_any_script_are_stored_although_the_environment_names_an_encoding(
    postgresql: PostgresqlAdapter, monkeypatch: pytest.MonkeyPatch
):
    """A Cyrillic error message ended the process, again after each start."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    async with postgresql.open() as store:
        run = a_run(1, crew="Исследование")
        await store.accept(run)
        assert (await store.load(run.run_id)) == run


async def test_a_server_without_fsync_is_used_with_a_warning(postgresql: PostgresqlAdapter):
    """The server of these tests has `fsync` and `full_page_writes` off; a session cannot change that."""
    with capture_logs() as logs:
        async with postgresql.open():
            pass
    warning = next(entry for entry in logs if entry["event"] == "store_durability_reduced")
    assert "fsync" in warning["reason"]
    assert "full_page_writes" in warning["reason"]
    health = await probe_store(postgresql.url)
    assert health.ok
    assert "fsync" in health.detail


@contextmanager
def without_options(server: PostgresServer) -> Iterator[int]:
    """The port of a proxy that drops the session options, as poolers can be configured to do."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, server.port), daemon=True).start()
        yield listening.getsockname()[1]


def _serve(listening: socket.socket, port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_connect, args=(client, port), daemon=True).start()


def _connect(client: socket.socket, port: int) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as upstream, suppress(OSError):
        while True:
            length, code = struct.unpack("!II", _exactly(client, 8))
            rest = _exactly(client, length - 8)
            if code >> 16 != 3:  # a request for encryption, answered with one byte
                upstream.sendall(struct.pack("!II", length, code) + rest)
                client.sendall(_exactly(upstream, 1))
                continue
            parts = rest.rstrip(b"\0").split(b"\0")
            kept = [pair for pair in zip(parts[::2], parts[1::2], strict=True) if pair[0] != b"options"]
            body = b"".join(name + b"\0" + value + b"\0" for name, value in kept) + b"\0"
            upstream.sendall(struct.pack("!II", len(body) + 8, code) + body)
            break
        threading.Thread(target=_pump, args=(upstream, client), daemon=True).start()
        _pump(client, upstream)


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = source.recv(size - len(found))
        if not part:
            raise OSError("closed")
        found += part
    return found


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


async def test_a_session_without_the_required_settings_is_refused(
    postgres: PostgresServer, postgresql: PostgresqlAdapter
):
    """A pooler may ignore them; then nothing would report that commits are not durable."""
    with without_options(postgres) as port:
        url = f"postgresql://bridge@127.0.0.1:{port}/{postgresql.database}"
        with pytest.raises(StoreMisconfigured, match="set `store"):
            async with open_store(database(url), "me", NOW):
                pass
        postgresql.execute(f"ALTER DATABASE {postgresql.database} SET synchronous_commit = off")
        async with open_store(database(url, pooler=True), "me", NOW) as store:
            await _is_durable(store)


async def _is_durable(store: SqlStore) -> None:
    assert (await accepted(store)).state is State.ACCEPTED
