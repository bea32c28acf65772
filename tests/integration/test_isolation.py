"""Callbacks to one receiver beside many that never answer: the real step, store and sockets, with short time limits."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from bridge.adapters.callback_sender import CallbackSender, callback_session
from bridge.adapters.name_lookup import NameLookup
from bridge.adapters.store import SqlStore, open_store
from bridge.core.model import Channel, Delivery, Destination
from bridge.core.receivers import Shares
from bridge.steps.deliver import Deliver
from bridge.worker import Worker
from tests.fakes import a_delivery

DEAD_RECEIVERS = 50
EVENTS = 150
TIME_LIMIT = 3.0  # seconds; 15 outside of tests
SHARES = Shares(places=120)


class Live:
    """A receiver that takes everything at once and notes when."""

    def __init__(self) -> None:
        self.url = ""
        self.came: dict[str, float] = {}
        self.all_came = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.came.setdefault(request.headers["webhook-id"], time.monotonic())
        if len(self.came) == EVENTS:
            self.all_came.set()
        return web.Response(status=204)


@asynccontextmanager
async def live_receiver() -> AsyncIterator[Live]:
    live = Live()
    app = web.Application()
    app.router.add_post("/{anywhere:.*}", live.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        live.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield live
    finally:
        await runner.cleanup()


@asynccontextmanager
async def black_holes() -> AsyncIterator[list[str]]:
    """Receivers that accept connections and never say a word."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()

    async with AsyncExitStack() as stack:
        holes = [await asyncio.start_server(swallow, "127.0.0.1", 0) for _ in range(DEAD_RECEIVERS)]
        for hole in holes:
            await stack.enter_async_context(hole)
        yield [f"http://127.0.0.1:{hole.sockets[0].getsockname()[1]}/" for hole in holes]


@asynccontextmanager
async def delivering(path: Path) -> AsyncIterator[tuple[SqlStore, Callable[[], None]]]:
    """The step that delivers callbacks, running; gives its store and how to wake it."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback((names := NameLookup()).close)
        store = await stack.enter_async_context(open_store(f"sqlite:///{path}", "me", time.time()))
        session = await stack.enter_async_context(
            callback_session(allow_private=True, resolver=names, time_limit=TIME_LIMIT)
        )
        wake = asyncio.Event()
        sender = CallbackSender(session, [], "0", time.time)
        step = Deliver(
            "d", lambda room, now: store.claim_callbacks(room, SHARES, now), sender, store, time.time, wake.set
        )
        worker = Worker(step, SHARES.places, wake)
        running = asyncio.create_task(worker.run())
        try:
            yield store, wake.set
        finally:
            worker.stop()
            await running


def to(url: str, number: int, late: float = 0.0) -> Delivery:
    return replace(a_delivery(number, due_at=time.time() - late), destination=Destination(Channel.CALLBACK, url))


async def waits(live: Live, store: SqlStore, wake: Callable[[], None], first: int) -> list[float]:
    """How long each of a steady stream of events took from its commit to the receiver."""
    filed = dict[str, float]()
    for number in range(first, first + EVENTS):
        delivery = to(live.url, number)
        await store.file([delivery])
        filed[delivery.event.event_id] = time.monotonic()
        wake()
        await asyncio.sleep(0.01)  # the stream's pace, not a wait for something
    await asyncio.wait_for(live.all_came.wait(), 30)
    return [max(live.came[event_id] - at, 0.0) for event_id, at in filed.items()]


Fill = Callable[[SqlStore], Awaitable[None]]


async def p99(path: Path, fill: Fill | None = None) -> float:
    async with live_receiver() as live, delivering(path) as (store, wake):
        if fill is not None:
            await fill(store)
            wake()
        return statistics.quantiles(await waits(live, store, wake, 50_000), n=100)[98]


async def test_fifty_dead_receivers_delay_nobody(tmp_path: Path):
    """Each dead one has twenty events due for longer than the live one's, more than all places together can hold.

    Their connections used up the places, and the live one's attempts waited until a dead one's time limit was over.
    """
    alone = await p99(tmp_path / "alone.db")
    async with black_holes() as dead:

        async def fill(store: SqlStore) -> None:
            await store.file(
                [to(url, number * 100 + n, n - number / 50) for number, url in enumerate(dead) for n in range(20)]
            )

        beside = await p99(tmp_path / "beside.db", fill)
    assert beside < max(2 * alone, TIME_LIMIT / 2), (alone, beside)  # a busy machine hiccups; a dead call takes longer
