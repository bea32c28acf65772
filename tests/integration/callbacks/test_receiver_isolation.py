"""Callbacks to one working receiver beside fifty dead ones: the real step, store, and sockets."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import aiohttp
from aiohttp import web

from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.adapters.store import SqlStore, database, open_store
from bridge.composition.steps import build_deliverers
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.core.delivery.outcome import Confirmed
from tests.component.steps.conftest import Bench
from tests.fakes import a_delivery, raise_fault
from tests.patience import PATIENCE
from tests.tcp_server import tcp_server

EACH_KIND = 25  # dead receivers
SILENT_BACKLOG = 20  # due events for each silent one: more than all slots together can hold
EVENTS = 50
TIME_LIMIT = PATIENCE  # a silent receiver holds its connection until the end of the test


class LiveReceiver:
    """A receiver that accepts everything at once."""

    def __init__(self) -> None:
        self.url = ""
        self.came: set[str] = set()
        self.all_came = asyncio.Event()

    async def respond(self, request: web.Request) -> web.Response:
        self.came.add(request.headers["webhook-id"])
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
        with closing(writer):
            self._calls += 1
            if self._calls == EACH_KIND:
                self.all_called.set()
            await self.stopped.wait()


@asynccontextmanager
async def dead_receivers() -> AsyncIterator[DeadReceivers]:
    dead = DeadReceivers()
    async with AsyncExitStack() as stack:
        for _ in range(EACH_KIND):
            port = await stack.enter_async_context(tcp_server(dead.swallow))
            dead.silent.append(f"http://127.0.0.1:{port}/")
            closed = stack.enter_context(socket.socket())
            closed.bind(("127.0.0.1", 0))  # this port is closed and stays closed
            dead.refusing.append(f"http://127.0.0.1:{closed.getsockname()[1]}/")
        yield dead


@asynccontextmanager
async def delivering(path: Path) -> AsyncIterator[tuple[SqlStore, Callable[[], None]]]:
    """The running step that delivers callbacks; returns its store and its signal."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database(f"sqlite:///{path}"), "me", time.time()))
        sessions = await stack.enter_async_context(callback_sessions(allow_private=True, time_limit=TIME_LIMIT))
        bench = Bench(store, clock=time.time)
        [worker] = build_deliverers(
            bench.steps, CallbackSender(sessions, SigningSecrets(), "0", time.time), None, raise_fault
        )
        running = asyncio.create_task(worker.run())
        try:
            yield store, bench.signals.deliver
        finally:
            worker.stop()
            await running


def to(url: str, number: int, late: float = 0.0) -> Delivery:
    return replace(a_delivery(number, due_at=time.time() - late), destination=Destination(Channel.CALLBACK, url))


async def test_fifty_dead_receivers_delay_no_other(tmp_path: Path):
    """All events arrive while the silent receivers hold every connection that they can get.

    The events for the dead receivers are due for longer. Their connections used all slots, and attempts for the live
    one waited for a timeout of a dead one.
    """
    async with (
        live_receiver() as live, dead_receivers() as dead, delivering(tmp_path / "bridge.db") as (store, wake)
    ):  # fmt: skip
        backlog = [*dead.silent * SILENT_BACKLOG, *dead.refusing * 2]
        await store.deliveries.add([to(url, number, late=9 - number / 1000) for number, url in enumerate(backlog)])
        wake()
        try:
            await asyncio.wait_for(dead.all_called.wait(), PATIENCE)
            await store.deliveries.add([to(live.url, 50_000 + number) for number in range(EVENTS)])
            wake()
            await asyncio.wait_for(live.all_came.wait(), PATIENCE / 2)
        finally:
            dead.stopped.set()


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
        sender = CallbackSender(sessions, SigningSecrets(), "0", time.time)
        hanging = [asyncio.create_task(sender.send(to(f"http://dead{one}.example/", one))) for one in range(dead)]
        await asyncio.wait_for(server.all_asked.wait(), PATIENCE)
        assert await sender.send(to(live.url.replace("127.0.0.1", "live.example"), dead)) == Confirmed()
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    await names.close()
    transport.close()
