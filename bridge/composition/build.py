"""Build a bridge from its settings: open what must be closed again, build every part, order the phases of the stop."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from bridge.adapters.http.server import HttpServer
from bridge.adapters.store.files import StoreGuard
from bridge.composition.amqp import Broker, build_broker
from bridge.composition.crews import add_crews, crews_check
from bridge.composition.http import build_callback_sender, build_http_servers
from bridge.composition.runtime import Runtime, open_runtime
from bridge.composition.steps import build_deliverers, build_workers
from bridge.config import Renewable, Settings, secret_values
from bridge.config.secret_watch import SecretWatch
from bridge.observability import logging as logs
from bridge.observability.watchdog import Watchdog
from bridge.ports.deliveries import Sender
from bridge.ports.lifecycle import HealthCheck, Service
from bridge.steps.recovery.journal import replay_journal
from bridge.steps.runs.input_check import CrewInputs
from bridge.supervisor import Supervisor

log = structlog.get_logger()


@dataclass
class Bridge:
    """Holds the parts of a bridge; `draining` is set when it begins to stop."""

    phases: list[list[Service]]
    servers: Sequence[HttpServer]
    own_ports: set[int]
    draining: bool = False

    async def start(self) -> Supervisor:
        """Bind the ports, then run every part. Raise `OSError` for a port that cannot be bound."""
        for server in self.servers:
            await server.start()
            self.own_ports.add(server.port)
        supervisor = Supervisor(self.phases)
        supervisor.start()
        return supervisor


@asynccontextmanager
async def open_bridge(
    settings: Settings, renewable: Renewable | None = None, *, migrate: bool, hold: bool = False
) -> AsyncIterator[Bridge]:
    """Build a bridge, and close what it opened on exit; `renewable`: secrets that may change while it runs.

    `hold`: the runs that are accepted now are not started until an operator releases them.
    """
    async with AsyncExitStack() as stack:
        runtime = await open_runtime(settings, stack, migrate=migrate)
        runtime.redactor.learn(secret_values(settings))
        runtime.renewals.append(lambda renewed: logs.learn(secret_values(renewed)))
        runtime.renewals.append(lambda renewed: runtime.redactor.learn(secret_values(renewed)))
        await add_crews(runtime, stack)
        await replay_journal(runtime.journal, runtime.crews, runtime.store, runtime.clock, runtime.counters.report)
        if hold:
            log.info("runs_held", runs=await runtime.store.queries.hold_accepted(runtime.clock()))
        bridge = _build(runtime, await build_callback_sender(runtime, stack))
        if renewable is not None:
            bridge.phases[-1].append(SecretWatch(renewable, runtime.renewals, runtime.counters.report))
        yield bridge


def _build(runtime: Runtime, callbacks: Sender) -> Bridge:
    settings, report = runtime.settings, runtime.counters.report
    inputs = CrewInputs(runtime.crews, runtime.clock)
    broker = None if settings.amqp is None else build_broker(runtime, settings.amqp, inputs)
    watchdog, guard = Watchdog(), StoreGuard([runtime.store.verify, runtime.journal.verify], report)
    bridge = Bridge(phases=[], servers=[], own_ports=runtime.own_ports)
    public, *private = bridge.servers = build_http_servers(
        runtime, _checks(runtime, broker), lambda: bridge.draining, lambda: watchdog.stalled, inputs
    )
    listeners: list[Service] = [public, *(broker.consumers.values() if broker else [])]
    steps = build_workers(runtime.steps, report)
    deliverers = build_deliverers(runtime.steps, callbacks, broker.sender if broker else None, report)
    links: list[Service] = [broker.publisher] if broker else []
    bridge.phases = [listeners, steps, deliverers, links, [*private, watchdog, guard]]
    return bridge


def _checks(runtime: Runtime, broker: Broker | None) -> dict[str, HealthCheck]:
    checks: dict[str, HealthCheck] = {
        "store": runtime.store.health,
        "crews": crews_check(runtime.crews, runtime.store.cluster),
        "clock": runtime.clock.health,
    }
    if broker is not None:
        checks |= {name: consumer.health for name, consumer in broker.consumers.items()}
        checks["broker_out"] = broker.publisher.health
    return checks
