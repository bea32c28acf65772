"""The life of the process: parts are put together, run until a signal or the death of one of them, and stop in order.

They stop by phases: doors first, then the steps (a POST under way is finished, never cancelled), then deliveries, then
the connections to the broker, the store last.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from bridge import __version__
from bridge.adapters.amqp.dead_letters import DeadQueue
from bridge.adapters.amqp.dead_letters import opened as open_dead_queue
from bridge.adapters.amqp.probe import probe_broker
from bridge.adapters.clock import steady_clock
from bridge.adapters.crew_api import HttpCrewApi, crew_sessions
from bridge.adapters.store import migrate_store, probe_store
from bridge.composition.build import assembled
from bridge.composition.policies import build_topology
from bridge.config import Amqp as AmqpSettings
from bridge.config import Renewable, Settings
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.ports.lifecycle import Health

COLLECT_AFTER = 20_000  # objects more than were freed, where 700 is the default

log = structlog.get_logger()


async def run(settings: Settings, renewable: Renewable | None = None, *, migrate: bool = True) -> None:
    """The daemon: until a signal to stop, or until a part dies; a second signal skips waiting for what is in hand.

    SIGHUP is one of them: by itself it would end the process in the middle of a POST.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    async with assembled(settings, renewable, migrate=migrate) as bridge:
        supervisor = await bridge.start()
        _spare_collector()
        log.info("started", version=__version__, crews=sorted(settings.crews), **_locations(settings), pid=os.getpid())
        await supervisor.wait(stop)
        bridge.draining = True
        log.info("stopping", parts_ended=supervisor.ended)
        await supervisor.stop(hurry)
    log.info("stopped")


def _spare_collector() -> None:
    """Leave out of garbage collection what lives as long as the process, and collect more rarely.

    Hardly anything here is a cycle, and each pass over the young objects finds thousands that wait for an answer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def _locations(settings: Settings) -> dict[str, str | None]:
    """Where the store and the broker are, fit to be logged."""
    return {"store": settings.store.location, "broker": None if settings.amqp is None else settings.amqp.location}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    """A bridge inside this process; gives its URL."""
    async with assembled(settings, migrate=True) as bridge:
        supervisor = await bridge.start()
        try:
            yield f"http://{settings.http.host}:{bridge.servers[0].port}"
        finally:
            await supervisor.stop(asyncio.Event())


async def migrate(settings: Settings) -> str:
    """Bring the store's schema up to date; gives back its revision."""
    return await migrate_store(settings.store.url.get_secret_value(), pooler=settings.store.pooler)


def dead_queue(amqp: AmqpSettings) -> AbstractAsyncContextManager[DeadQueue]:
    """The queue of dead messages, opened for a person to look at; entering raises what the broker says."""
    return open_dead_queue(amqp.url.get_secret_value(), build_topology(amqp))


async def try_connections(settings: Settings) -> dict[str, Health]:
    """Try everything that the bridge needs, by name; changes nothing anywhere."""
    found = {"store": await probe_store(settings.store.url.get_secret_value(), pooler=settings.store.pooler)}
    if settings.amqp is not None:
        found["broker"] = await probe_broker(settings.amqp.url.get_secret_value())
    async with crew_sessions() as sessions:
        for name, crew in settings.crews.items():
            api = HttpCrewApi(crew.url, crew.token.get_secret_value(), RateLimiter(), sessions, steady_clock())
            found[f"crew {name}"] = await api.probe()
    return found
