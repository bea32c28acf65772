"""Retries of callbacks after each kind of response: real step, store, and sockets, with a manual clock.

Nothing is due a second before its time, everything is due at its time, and the times are the documented ones within a
jitter of a fifth.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.adapters.store import SqlStore, database, open_store
from bridge.core.delivery.model import Attempt, Channel, Delivery, DeliveryState, Destination
from bridge.ports.queries import DeliveryFilter
from bridge.steps.delivery import DeliverEvents
from tests.component.steps.conftest import Bench
from tests.fakes import NOW, HandClock, a_delivery
from tests.web_server import web_server

PAUSES = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)  # seconds between ten attempts
DAY = 86_400.0

Answer = Callable[[], Awaitable[web.StreamResponse]]


def says(status: int, **headers: str) -> Answer:
    async def response() -> web.StreamResponse:
        return web.Response(
            status=status, text="x" * 5000, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return response


async def says_nothing() -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def receiver(response: Answer) -> AsyncIterator[str]:
    async def handle(_: web.Request) -> web.StreamResponse:
        return await response()

    async with web_server(web.post("/", handle), handler_cancellation=True) as url:
        yield f"{url}/"


class DeliveryRun:
    """One delivery from its first attempt to its end."""

    def __init__(self, store: SqlStore, step: DeliverEvents, clock: HandClock) -> None:
        self._store = store
        self._step = step
        self._clock = clock

    async def attempts(self, url: str) -> tuple[Delivery, list[Attempt]]:
        """Advance the time until the delivery has ended; return its final state and its attempts."""
        first = replace(a_delivery(due_at=self._clock()), destination=Destination(Channel.CALLBACK, url))
        await self._store.deliveries.add([first])
        while True:
            [now] = await self._store.queries.find_deliveries(DeliveryFilter(first.delivery_id))
            if now.state is not DeliveryState.PENDING or now.paused:
                return now, await self._store.queries.attempts_for_delivery(first.delivery_id)
            if now.due_at > self._clock():
                self._clock.moment = now.due_at - 1.0
                assert await self._step.claim(9) == []
                self._clock.moment = now.due_at
            [claimed] = await self._step.claim(9)
            await self._step.handle(claimed)


@pytest.fixture
def time_limit() -> float:
    return 15.0


@pytest.fixture
async def delivery_run(tmp_path: Path, time_limit: float) -> AsyncIterator[DeliveryRun]:
    clock = HandClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database(f"sqlite:///{tmp_path}/s.db"), "me", NOW))
        sessions = await stack.enter_async_context(
            callback_sessions(allow_private=True, own_ports={9}, time_limit=time_limit)
        )
        bench = Bench(store, clock=clock, sender=CallbackSender(sessions, SigningSecrets(), "0", clock))
        yield DeliveryRun(store, bench.send_callbacks, clock)


def pauses(attempts: list[Attempt]) -> list[float]:
    return [later.at - earlier.at for earlier, later in pairwise(attempts)]


async def assert_whole_schedule(delivery_run: DeliveryRun, url: str, error: str) -> list[Attempt]:
    delivery, attempts = await delivery_run.attempts(url)
    assert (delivery.state, len(attempts)) == (DeliveryState.DEAD, 10)
    assert {attempt.error for attempt in attempts} == {error}
    for found, promised in zip(pauses(attempts), PAUSES, strict=True):
        assert 0.8 * promised <= found <= 1.2 * promised
    return attempts


@pytest.mark.parametrize("status", [200, 299])
async def test_any_2xx_is_delivered_at_the_first_attempt(delivery_run: DeliveryRun, status: int) -> None:
    async with receiver(says(status)) as url:
        delivery, [attempt] = await delivery_run.attempts(url)
    assert (delivery.state, attempt.at, attempt.code) == (DeliveryState.DELIVERED, NOW, status)


async def test_410_ends_the_delivery_at_once(delivery_run: DeliveryRun) -> None:
    async with receiver(says(410)) as url:
        delivery, [attempt] = await delivery_run.attempts(url)
    assert (delivery.state, attempt.code) == (DeliveryState.DEAD, 410)


@pytest.mark.parametrize("status", [301, 307, 404, 429, 500, 503])
async def test_any_other_response_is_retried_on_the_whole_schedule(delivery_run: DeliveryRun, status: int) -> None:
    """Including redirects; the first KiB of a response is stored."""
    async with receiver(says(status, Location="http://127.0.0.1:9/")) as url:
        attempts = await assert_whole_schedule(delivery_run, url, f"HTTP {status}")
    assert {attempt.code for attempt in attempts} == {status}
    assert {attempt.response for attempt in attempts} == {b"x" * 1024}


@pytest.mark.parametrize("time_limit", [0.3])
async def test_no_response_is_retried_on_the_whole_schedule(delivery_run: DeliveryRun) -> None:
    async with receiver(says_nothing) as url:
        await assert_whole_schedule(delivery_run, url, "timed out")


async def test_a_closed_port_is_retried_on_the_whole_schedule(delivery_run: DeliveryRun) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await assert_whole_schedule(delivery_run, f"http://127.0.0.1:{closed.getsockname()[1]}/", "connection failed")


async def test_a_failed_tls_handshake_is_retried_on_the_whole_schedule(delivery_run: DeliveryRun) -> None:
    async with receiver(says(200)) as url:
        await assert_whole_schedule(delivery_run, url.replace("http:", "https:"), "TLS handshake failed")


@pytest.mark.parametrize("host", ["169.254.169.254", "127.0.0.1:9", "8.8.8.8"])
async def test_a_forbidden_address_ends_the_delivery_at_once(delivery_run: DeliveryRun, host: str) -> None:
    """A metadata service, a port of the bridge itself, and a public address without TLS."""
    delivery, [attempt] = await delivery_run.attempts(f"http://{host}/")
    assert (delivery.state, attempt.error) == (DeliveryState.DEAD, "address not permitted")


@pytest.mark.parametrize(
    ("status", "command", "seconds", "pauses_seen"),
    [(429, "7200", 7200.0, 9), (503, "999999", DAY, 5), (429, "Thu, 01 Jan 2099 00:00:00 GMT", DAY, 5)],
)
async def test_retry_after_extends_the_delays_to_the_second(
    delivery_run: DeliveryRun, status: int, command: str, seconds: float, pauses_seen: int
) -> None:
    """Up to a day, and never shorter than the schedule; after five days of failures the receiver is paused."""
    async with receiver(says(status, Retry_After=command)) as url:
        _, attempts = await delivery_run.attempts(url)
    found = pauses(attempts)
    assert len(found) == pauses_seen
    for pause, promised in zip(found, PAUSES, strict=False):
        assert (
            pause == seconds if 1.2 * promised <= seconds else max(seconds, 0.8 * promised) <= pause <= 1.2 * promised
        )
