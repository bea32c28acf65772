"""Callbacks to one working receiver beside fifty dead ones: the real step, store, and sockets, with short timeouts."""

import asyncio
import socket
import statistics
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import aiohttp
from aiohttp import web

from bridge.adapters.callbacks.sender import CallbackSender, callback_sessions
from bridge.adapters.store import SqlStore, open_store
from bridge.composition.steps import build_deliverers
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.core.delivery.outcome import Confirmed
from tests.component.steps.conftest import Bench
from tests.fakes import a_delivery, raise_fault
from tests.patience import PATIENCE

EACH_KIND = 25  # dead receivers
SILENT_BACKLOG = 20  # due events for each silent one: more than all slots together can hold
EVENTS = 300  # the 99th percentile excludes the first ones, which coincide with the first calls to all dead receivers
TIME_LIMIT = 5.0  # seconds; 15 outside of tests
PAIRS, ENOUGH = 9, 1  # pairs of measurements, with and without dead receivers


class LiveReceiver:
    """A receiver that accepts everything at once and records the time."""

    def __init__(self) -> None:
        self.url = ""
        self.came: dict[str, float] = {}
        self.all_came = asyncio.Event()

    async def respond(self, request: web.Request) -> web.Response:
        self.came.setdefault(request.headers["webhook-id"], time.monotonic())
        if len(self.came) == EVENTS:
            self.all_came.set()
        return web.Response(status=204)


@asynccontextmanager
async def live_receiver() -> AsyncIterator[LiveReceiver]:
    live = LiveReceiver()
    app = web.Application()
    app.router.add_post("/{anywhere:.*}", live.respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        live.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield live
    finally:
        await runner.cleanup()


class DeadReceivers:
    """Receivers of which some accept connections without a response, and the others refuse connections."""

    def __init__(self) -> None:
        self.silent: list[str] = []
        self.refusing: list[str] = []
        self.all_called = asyncio.Event()
        self.stopped = asyncio.Event()
        self._calls = 0

    async def swallow(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._calls += 1
        if self._calls == EACH_KIND:
            self.all_called.set()
        await self.stopped.wait()
        writer.close()


@asynccontextmanager
async def dead_receivers() -> AsyncIterator[DeadReceivers]:
    dead = DeadReceivers()
    async with AsyncExitStack() as stack:
        for _ in range(EACH_KIND):
            server = await stack.enter_async_context(await asyncio.start_server(dead.swallow, "127.0.0.1", 0))
            dead.silent.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            closed = stack.enter_context(socket.socket())
            closed.bind(("127.0.0.1", 0))  # this port is closed and stays closed
            dead.refusing.append(f"http://127.0.0.1:{closed.getsockname()[1]}/")
        yield dead


@asynccontextmanager
async def delivering(path: Path) -> AsyncIterator[tuple[SqlStore, Callable[[], None]]]:
    """The running step that delivers callbacks; returns its store and its signal."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(f"sqlite:///{path}", "me", time.time()))
        sessions = await stack.enter_async_context(callback_sessions(allow_private=True, time_limit=TIME_LIMIT))
        bench = Bench(store, clock=time.time)
        [worker] = build_deliverers(bench.steps, CallbackSender(sessions, [], "0", time.time), None, raise_fault)
        running = asyncio.create_task(worker.run())
        try:
            yield store, bench.signals.deliver
        finally:
            worker.stop()
            await running


def to(url: str, number: int, late: float = 0.0) -> Delivery:
    return replace(a_delivery(number, due_at=time.time() - late), destination=Destination(Channel.CALLBACK, url))


async def waits(live: LiveReceiver, store: SqlStore, wake: Callable[[], None], first: int) -> list[float]:
    """The time from commit to receiver for each of a steady stream of events."""
    filed = dict[str, float]()
    for number in range(first, first + EVENTS):
        delivery = to(live.url, number)
        await store.add_deliveries([delivery])
        filed[delivery.event.event_id] = time.monotonic()
        wake()
        await asyncio.sleep(0.01)  # the rate of the stream, not a wait for an event
    await asyncio.wait_for(live.all_came.wait(), PATIENCE)
    return [max(live.came[event_id] - at, 0.0) for event_id, at in filed.items()]


async def p99_alone(path: Path) -> float:
    async with live_receiver() as live, delivering(path) as (store, wake):
        return statistics.quantiles(await waits(live, store, wake, 50_000), n=100)[98]


async def p99_beside(path: Path) -> float:
    """Measured while the silent receivers hold all connections that they can get."""
    async with live_receiver() as live, dead_receivers() as dead, delivering(path) as (store, wake):
        backlog = [*dead.silent * SILENT_BACKLOG, *dead.refusing * 2]
        await store.add_deliveries([to(url, number, late=9 - number / 1000) for number, url in enumerate(backlog)])
        wake()
        await asyncio.wait_for(dead.all_called.wait(), PATIENCE)
        try:
            return statistics.quantiles(await waits(live, store, wake, 50_000), n=100)[98]
        finally:
            dead.stopped.set()


async def test_fifty_dead_receivers_delay_no_other(tmp_path: Path):
    """The events for the dead receivers are due for longer than those for the live one.

    Their connections used all slots, and attempts for the live one waited for a timeout of a dead one.
    Measured in turns, because a busy machine has outliers: further pairs are measured until their median is low.
    """
    alone, beside = list[float](), list[float]()
    for pair in range(PAIRS):
        alone.append(await p99_alone(tmp_path / f"alone-{pair}.db"))
        beside.append(await p99_beside(tmp_path / f"beside-{pair}.db"))
        if pair + 1 >= ENOUGH and statistics.median(beside) < 2 * statistics.median(alone):
            return
    raise AssertionError((alone, beside))


class NameServer(asyncio.DatagramProtocol):
    """Answers for names that contain "live" with 127.0.0.1; does not respond to lookups of others."""

    def __init__(self, dead: int) -> None:
        self.dead = dead
        self.all_asked = asyncio.Event()
        self._unanswered = set[bytes]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, _, kind = data[12:].partition(b"\0")
        if b"live" not in name:
            self._unanswered.add(name)
            if len(self._unanswered) == self.dead:
                self.all_asked.set()
            return
        found = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if kind.startswith(b"\0\1") else b""  # IPv4 only
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(found), 0, 0)
        self.transport.sendto(head + name + b"\0" + kind[:4] + found, addr)


async def test_names_without_an_answer_do_not_delay_another_name() -> None:
    """Lookups in the loop's threads would wait for theirs; aiohttp's resolver has no threads."""
    assert aiohttp.DefaultResolver is aiohttp.AsyncResolver
    loop, dead = asyncio.get_running_loop(), 100
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(dead), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    names = aiohttp.AsyncResolver(nameservers=[f"127.0.0.1:{port}"], timeout=PATIENCE)
    async with live_receiver() as live, callback_sessions(allow_private=True, resolver=names) as sessions:
        sender = CallbackSender(sessions, [], "0", time.time)
        hanging = [asyncio.create_task(sender.send(to(f"http://dead{one}.example/", one))) for one in range(dead)]
        await asyncio.wait_for(server.all_asked.wait(), PATIENCE)
        assert await sender.send(to(live.url.replace("127.0.0.1", "live.example"), dead)) == Confirmed()
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    await names.close()
    transport.close()
