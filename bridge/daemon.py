"""The life of the process: build the parts, run them until a signal or until one ends, and stop them in order.

They stop by phases: listeners first, then the steps (a POST in progress finishes and is never cancelled), then
deliveries, then the connections to the broker, and the store last.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from bridge import __version__
from bridge.adapters.amqp.connection import probe_broker
from bridge.adapters.amqp.dead_letters import DeadQueue, open_dead_queue
from bridge.adapters.clock import steady_clock
from bridge.adapters.crew_api import HttpCrewApi, crew_sessions
from bridge.adapters.store import migrate_store, probe_store
from bridge.adapters.threads import start_threads
from bridge.composition.build import Bridge, open_bridge
from bridge.composition.policies import broker_urls, build_topology, proxy_rule
from bridge.config import Amqp as AmqpSettings
from bridge.config import Renewable, Settings, Source
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.observability.systemd import ServiceManager
from bridge.ports.lifecycle import Health
from bridge.supervisor import GRACE

DEFAULT_THREADS = 16  # for the kickoff journal, checks of the store's files, and secret files
GC_THRESHOLD = 20_000  # allocations minus deallocations; the default is 700

log = structlog.get_logger()


async def run(
    settings: Settings,
    renewable: Renewable | None = None,
    *,
    migrate: bool = True,
    hold: bool = False,
    notify_socket: str | None = None,
) -> None:
    """Run the daemon until a signal stops it or a part ends; a second signal skips waiting for work in progress.

    SIGHUP makes it read its settings again. `notify_socket`: the address of systemd's notification socket.
    """
    manager = ServiceManager(notify_socket)
    gc.freeze()  # imported code is never garbage
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    loop.set_default_executor(start_threads(DEFAULT_THREADS, "default"))
    await loop.getaddrinfo(None, 80)  # makes libuv start its threads now; it aborts if it cannot
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # its default action would end the process
    async with open_bridge(settings, renewable, manager, migrate=migrate, hold=hold) as bridge:
        loop.add_signal_handler(signal.SIGHUP, bridge.reload)
        supervisor = await bridge.start()
        _tune_garbage_collection()
        log.info("started", version=__version__, crews=sorted(settings.crews), **_locations(settings), pid=os.getpid())
        manager.ready()
        await supervisor.wait(stop)
        bridge.draining = True
        manager.stopping()
        log.info("stopping", parts_ended=supervisor.ended)
        await supervisor.stop(hurry)
    log.info("stopped")


def _tune_garbage_collection() -> None:
    """Exclude objects that live as long as the process from garbage collection, and collect less often.

    Cycles are rare here, and each pass over the youngest generation finds thousands of objects that await a response.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def _locations(settings: Settings) -> dict[str, str | None]:
    """Return where the store and the broker are, without secrets."""
    return {"store": settings.store.location, "broker": None if settings.amqp is None else settings.amqp.location}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """Run a bridge inside this process; yield its URL."""
    async with started(settings) as bridge:
        yield f"http://{settings.http.host}:{bridge.servers[0].port}"


@asynccontextmanager
async def started(settings: Settings, grace: float = GRACE) -> AsyncIterator[Bridge]:
    """Run a bridge inside this process; `grace`: the seconds that work in progress may take when it stops."""
    async with open_bridge(settings, migrate=True) as bridge:
        supervisor = await bridge.start()
        try:
            yield bridge
        finally:
            await supervisor.stop(asyncio.Event(), grace)


async def migrate(settings: Settings) -> str:
    """Bring the store's schema up to date; return its revision."""
    return await migrate_store(settings.store.url.get_secret_value(), pooler=settings.store.pooler)


def dead_queue(amqp: AmqpSettings, sources: Mapping[str, Source]) -> AbstractAsyncContextManager[DeadQueue]:
    """Open the dead queue for an operator. Entering raises the broker's error."""
    return open_dead_queue(broker_urls(amqp), build_topology(amqp, sources))


async def try_connections(settings: Settings) -> dict[str, Health]:
    """Try to reach each dependency; return its health by name. Changes nothing."""
    health = {"store": await probe_store(settings.store.url.get_secret_value(), pooler=settings.store.pooler)}
    if settings.amqp is not None:
        health["broker"] = await probe_broker(broker_urls(settings.amqp))
    async with crew_sessions() as sessions:
        for name, crew in settings.crews.items():
            proxy = proxy_rule(settings.proxy)
            token = crew.token.get_secret_value()
            tls = None if crew.tls is None else crew.tls.context()
            api = HttpCrewApi(crew.url, token, RateLimiter(), sessions, steady_clock(), proxy=proxy, tls=tls)
            health[f"crew {name}"] = await api.probe()
    return health
