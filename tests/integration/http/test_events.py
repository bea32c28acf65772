"""The event stream over real HTTP and a real store: visibility, resumption, and limits."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from bridge.adapters.http.api import event_feed
from bridge.adapters.http.api.events import EventsApi, StreamOptions
from bridge.adapters.http.auth import Clients
from bridge.adapters.http.server import HttpServer
from bridge.adapters.store import SqlStore, database, open_store
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery import events
from bridge.core.runs.model import Envelope, Run
from tests.fakes import a_run, applied
from tests.http_client import CLIENTS, LISTEN, bearer, problem
from tests.patience import PATIENCE

QUICK = StreamOptions(poll_interval=0.01)
_numbers = count(1)


@dataclass
class SentEvent:
    """One event of a stream."""

    event_id: str
    kind: str
    data: dict[str, Any]


@dataclass
class Streams:
    """A server with only the stream, and its store."""

    store: SqlStore
    file: Path
    server: HttpServer
    http: aiohttp.ClientSession

    async def open(self, client: str = "reader", last: str | None = None, query: str = "") -> aiohttp.ClientResponse:
        headers = bearer(client) | ({"Last-Event-ID": last} if last else {})
        return await self.http.get(f"http://127.0.0.1:{self.server.port}/v1/events{query}", headers=headers)

    async def add_event(
        self, client: str = "submitter", crew: str = "research", created_at: float | None = None, meta: Any = None
    ) -> str:
        """Store an event about a new run; return its id."""
        number = next(_numbers)
        run = a_run(number, crew=crew, envelope=Envelope(f"client/{client}"), meta=meta or {})
        await self.store.accept(run)
        return await self.publish(run, created_at)

    async def publish(self, run: Run, created_at: float | None = None) -> str:
        decision = events.with_event(
            run, "run.progress", CrewPolicy(), time.time() if created_at is None else created_at
        )
        await applied(self.store, replace(decision, run=replace(run, owner=None)))
        [event] = decision.unaddressed
        return event.event_id

    def repeat(self, event_id: str, times: int, sooner: float) -> None:
        """Insert more events like this one directly, spread over the seconds before it."""
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(_REPEAT, {"id": event_id, "times": times, "sooner": sooner})


_REPEAT = """
WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :times)
INSERT INTO events (event_id, type, run_id, crew, headers, content_type, created_at, body, stored_at)
SELECT event_id || '-' || number, type, run_id, crew, headers, content_type, created_at, body,
       stored_at - :sooner * number / :times
FROM events, numbers WHERE event_id = :id
"""


@asynccontextmanager
async def served(path: Path, options: StreamOptions = QUICK, clients: Clients | None = None) -> AsyncIterator[Streams]:
    clients = clients or Clients(CLIENTS)
    async with AsyncExitStack() as stack:
        file = path / "s.db"
        store = await stack.enter_async_context(open_store(database(f"sqlite:///{file}"), "me", time.time()))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        server = HttpServer(LISTEN, EventsApi(store.queries, clients, options).routes(), clients)
        await server.start()
        running = asyncio.create_task(server.run())
        try:
            yield Streams(store, file, server, http)
        finally:
            server.stop()
            await running


@pytest.fixture
async def streams(tmp_path: Path) -> AsyncIterator[Streams]:
    async with served(tmp_path) as streams:
        yield streams


async def block(stream: aiohttp.ClientResponse) -> dict[str, str]:
    """The next block of lines, by name; a comment has the name ''."""
    lines = (await asyncio.wait_for(stream.content.readuntil(b"\n\n"), PATIENCE)).decode().strip().split("\n")
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


async def next_event(stream: aiohttp.ClientResponse) -> SentEvent:
    """The next event; skips keep-alive comments."""
    async with asyncio.timeout(PATIENCE):
        while "id" not in (found := await block(stream)):
            pass
    return SentEvent(found["id"], found["event"], json.loads(found["data"]))


async def opened_when_free(streams: Streams) -> None:
    async with asyncio.timeout(PATIENCE):
        while (stream := await streams.open()).status != 200:
            stream.release()
            await asyncio.sleep(0.05)


async def test_an_event_without_a_destination_is_streamed_with_its_id_and_type(streams: Streams) -> None:
    stream = await streams.open()
    assert (stream.status, stream.content_type) == (200, "text/event-stream")
    assert stream.headers["Server"] == "kickoff-bridge", "as that of other responses"
    assert await block(stream) == {"retry": "2000"}
    event_id = await streams.add_event(meta={"text": "two\nlines\r"})
    event = await next_event(stream)
    assert (event.event_id, event.kind) == (event_id, "run.progress")
    assert (event.data["id"], event.data["data"]["meta"]) == (event_id, {"text": "two\nlines\r"})


async def test_each_client_receives_events_of_the_runs_that_it_may_see(streams: Streams) -> None:
    """A submitter of its own, a reader of all, a restricted reader of its crew's."""
    opened = {name: await streams.open(name) for name in ("submitter", "reader", "operator", "narrow")}
    for stream in opened.values():
        await block(stream)
    mine = await streams.add_event("submitter", "research")
    others = await streams.add_event("another", "research")
    elsewhere = await streams.add_event("another", "triage")
    last = await streams.add_event("submitter", "research")
    expected = {
        "submitter": [mine, last],
        "reader": [mine, others, elsewhere, last],
        "operator": [mine, others, elsewhere, last],
        "narrow": [mine, others, last],
    }
    for name, stream in opened.items():
        assert [(await next_event(stream)).event_id for _ in expected[name]] == expected[name], name


async def test_a_stream_resumes_after_the_last_event(streams: Streams) -> None:
    long_ago = time.time() - 3600
    ids = [await streams.add_event(created_at=long_ago + 60 * number) for number in range(20)]
    stream = await streams.open(last=ids[9])
    assert [(await next_event(stream)).event_id for _ in range(10)] == ids[10:]


async def test_a_stream_without_a_last_event_starts_now(streams: Streams) -> None:
    await streams.add_event()
    stream = await streams.open()
    await block(stream)
    assert (await streamed_after(stream, streams)) is True


async def streamed_after(stream: aiohttp.ClientResponse, streams: Streams) -> bool:
    """Whether the next event of the stream is the next one that is stored."""
    event_id = await streams.add_event()
    return (await next_event(stream)).event_id == event_id


async def test_an_event_that_is_committed_late_is_streamed(streams: Streams) -> None:
    """Two processes write at the same time, or a commit takes a while: the order of times is not that of commits."""
    stream = await streams.open()
    await block(stream)
    first = await streams.add_event()
    assert (await next_event(stream)).event_id == first
    streams.repeat(first, 1, sooner=2.0)
    assert (await next_event(stream)).event_id == f"{first}-1"


async def test_an_event_created_long_before_it_was_stored_is_streamed(streams: Streams) -> None:
    """The poll took its time, or the store was unavailable."""
    await streams.add_event()
    stream = await streams.open()
    await block(stream)
    late = await streams.add_event(created_at=time.time() - 600)
    assert (await next_event(stream)).event_id == late
    assert await streamed_after(stream, streams)


async def test_a_stream_resumes_after_more_simultaneous_events_than_a_page(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And after more than the streams share."""
    monkeypatch.setattr(event_feed, "PAGE", 50)
    monkeypatch.setattr(event_feed, "MAX_RECENT", 1000)
    last = await streams.add_event()
    streams.repeat(last, 1100, sooner=4.0)
    stream = await streams.open()
    new = await streams.add_event()
    while (await next_event(stream)).event_id != new:
        pass


async def test_if_the_last_event_was_deleted_the_stream_reports_a_gap(streams: Streams) -> None:
    stream = await streams.open(last="01920000-0000-7000-8000-000000000000-succeeded")
    assert await block(stream) == {"retry": "2000"}
    assert await block(stream) == {"event": "stream.gap", "data": "{}"}
    assert await streamed_after(stream, streams)


async def test_a_stream_without_an_event_so_far_continues_from_the_time_it_began(streams: Streams) -> None:
    began = int(time.time())
    missed = await streams.add_event()
    stream = await streams.open(last=f"at-{began}")
    assert await block(stream) == {"retry": "2000"}
    assert (await next_event(stream)).event_id == missed
    ahead = await streams.open(last=f"at-{began + 86_400}")
    assert await block(ahead) == {"retry": "2000"}
    assert (await next_event(ahead)).event_id == missed, "the last seconds are repeated"


async def test_an_invalid_event_id_counts_as_deleted(streams: Streams) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", streams.server.port)
    head = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('reader')['Authorization']}\r\n"
    with closing(writer):
        writer.write(head.encode() + b"Last-Event-ID: no\xffunicode\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await asyncio.wait_for(reader.readuntil(b"event: stream.gap\n"), PATIENCE)


async def test_an_idle_stream_sends_keep_alives_and_ends_after_a_while(tmp_path: Path) -> None:
    async with served(tmp_path, StreamOptions(poll_interval=0.01, keepalive=0.01, max_duration=0.5)) as streams:
        stream = await streams.open()
        rest = await asyncio.wait_for(stream.content.read(), PATIENCE)
    assert rest.startswith(b"retry: 2000\n\n:\n\n")


async def test_a_client_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    """Its events would fill the memory; it may hold only what fits the socket buffers of both sides."""
    async with served(tmp_path, StreamOptions(poll_interval=0.01, write_timeout=0.2, slots=1)) as streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", streams.server.port, limit=1024)
        lines = ["GET /v1/events HTTP/1.1", "Host: x", f"Authorization: {bearer('reader')['Authorization']}", "", ""]
        writer.write("\r\n".join(lines).encode())
        await reader.readuntil(b"retry: 2000\n\n")
        run = a_run(next(_numbers), envelope=Envelope("client/submitter"), meta={"text": "x" * 500_000})
        await streams.store.accept(run)
        for number in range(40):
            decision = events.with_event(run, "run.progress", CrewPolicy(), time.time(), number + 2)
            run = await applied(streams.store, replace(decision, run=run))
        await opened_when_free(streams)  # its slot is free after the disconnect
        writer.close()


async def test_a_client_that_disconnects_before_the_response_is_no_fault(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a page does that is closed while it opens its stream."""
    opening, gone, stored_at = asyncio.Event(), asyncio.Event(), streams.store.queries.stored_at

    async def slow(event_id: str | None = None) -> float | None:
        opening.set()
        await gone.wait()
        return await stored_at(event_id)

    monkeypatch.setattr(streams.store.queries, "stored_at", slow)
    with capture_logs() as logged:
        _, writer = await asyncio.open_connection("127.0.0.1", streams.server.port)
        lines = ["GET /v1/events HTTP/1.1", "Host: x", f"Authorization: {bearer('reader')['Authorization']}", "", ""]
        writer.write("\r\n".join(lines).encode())
        await opening.wait()
        writer.transport.abort()
        await streams.open(query="?unknown")  # after which the server has noticed
        gone.set()
        await opened_when_free(streams)
    assert [line["event"] for line in logged if line["log_level"] == "error"] == []


async def test_the_number_of_streams_is_limited(tmp_path: Path) -> None:
    async with served(tmp_path, StreamOptions(poll_interval=0.01, slots=2)) as streams:
        first, _ = await streams.open(), await streams.open("operator")
        refused = await streams.open("narrow")
        assert "Retry-After" in refused.headers
        await problem(refused, 429, "too_many_requests")
        first.close()
        await opened_when_free(streams)


async def test_one_client_cannot_occupy_every_stream(tmp_path: Path) -> None:
    """It may have half of those that the others do not have; it could have all 100, and the others received 429."""
    async with served(tmp_path, StreamOptions(poll_interval=0.01, slots=4)) as streams:
        statuses = [(await streams.open(client)).status for client in ("reader", "reader", "reader", "operator")]
        assert statuses == [200, 200, 429, 200]
        assert (await streams.open("narrow")).status == 200


async def test_without_clients_all_local_callers_share_the_streams(tmp_path: Path) -> None:
    async with served(tmp_path, StreamOptions(poll_interval=0.01, slots=2), Clients()) as streams:
        assert [(await streams.open()).status for _ in range(3)] == [200, 200, 429]


async def test_an_unknown_parameter_is_refused(streams: Streams) -> None:
    for wrong in ("?kind=failed", "?run_id=01920000", "?crew=a%20b"):
        await problem(await streams.open(query=wrong), 422, "invalid_request")


async def test_a_stream_is_limited_to_a_crew_or_a_run(streams: Streams) -> None:
    of_crew, other = [await streams.open(query=f"?crew={crew}") for crew in ("research", "triage")]
    run = a_run(next(_numbers), envelope=Envelope("client/submitter"))
    await streams.store.accept(run)
    of_run = await streams.open(query=f"?run_id={run.run_id}")
    first = await streams.add_event()
    wanted = await streams.publish(run)
    triage = await streams.add_event(crew="triage")
    assert [(await next_event(of_crew)).event_id for _ in range(2)] == [first, wanted]
    assert (await next_event(of_run)).event_id == wanted
    assert (await next_event(other)).event_id == triage


async def test_a_stopping_server_ends_its_streams(tmp_path: Path) -> None:
    async with served(tmp_path) as streams:
        stream = await streams.open()
        streams.server.stop()
        assert await asyncio.wait_for(stream.content.read(), PATIENCE) == b"retry: 2000\n\n"
