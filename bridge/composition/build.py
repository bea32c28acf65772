"""Build a bridge from its settings: open what must be closed again, build every part, order the phases of the stop."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain

import structlog

from bridge.adapters.http.server import HttpServer
from bridge.adapters.store import SqlStore
from bridge.adapters.store.files import StoreGuard
from bridge.composition.amqp import Broker
from bridge.composition.crews import CrewBuilder, build_crews, crews_check
from bridge.composition.http import build_callback_sender, build_http_servers
from bridge.composition.reload import Reload
from bridge.composition.runtime import Runtime, open_runtime
from bridge.composition.steps import build_common_workers, build_crew_workers, build_deliverers
from bridge.config import Renewable, Settings, secret_values
from bridge.config.settings_watch import SettingsWatch
from bridge.observability import logging as logs
from bridge.observability.systemd import ServiceManager
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

    store: SqlStore
    phases: list[list[Service]]
    supervisor: Supervisor
    servers: Sequence[HttpServer]
    own_ports: set[int]
    reload: Callable[[], None] = lambda: None
    """Reads the settings again."""
    draining: bool = False

    async def start(self) -> Supervisor:
        """Bind the ports, then run every part. Raise `OSError` for a port that cannot be bound."""
        for server in self.servers:
            await server.start()
            self.own_ports.add(server.port)
        self.supervisor.start()
        return self.supervisor


@asynccontextmanager
async def open_bridge(
    settings: Settings,
    renewable: Renewable | None = None,
    manager: ServiceManager | None = None,
    *,
    migrate: bool,
    hold: bool = False,
) -> AsyncIterator[Bridge]:
    """Build a bridge, and close what it opened on exit; `renewable`: reads changed settings while it runs.

    `manager`: is shown that the bridge works, and when it reads its settings.

    `hold`: the runs that are accepted now are not started until an operator releases them. In a restored backup, they
    are always held, because they may have been started since the backup.
    """
    async with AsyncExitStack() as stack:
        runtime = await open_runtime(settings, stack, migrate=migrate)

        def learn_secrets(current: Settings) -> None:
            for learn in (logs.learn, runtime.redactor.learn):
                learn(secret_values(current))

        learn_secrets(settings)
        runtime.renewals.append(learn_secrets)
        runtime.renewals.append(lambda renewed: logs.use_level(renewed.log.level))
        crews = await build_crews(runtime, stack)
        await replay_journal(runtime.journal, runtime.crews, runtime.store, runtime.clock, runtime.counters.report)
        held = await runtime.store.queries.hold_accepted(runtime.clock(), always=hold)
        if held is not None:
            log.info("runs_held", runs=held, reason="--hold" if hold else "the store is a restored backup")
        sender = await build_callback_sender(runtime, stack)
        yield _build(runtime, crews, sender, renewable, manager or ServiceManager())


def _build(
    runtime: Runtime, crews: CrewBuilder, callbacks: Sender, renewable: Renewable | None, manager: ServiceManager
) -> Bridge:
    settings, report = runtime.settings, runtime.counters.report
    inputs = CrewInputs(runtime.crews, runtime.clock)
    broker = None if settings.amqp is None else Broker(runtime, settings.amqp, inputs)
    watchdog = Watchdog(manager.alive)
    guard = StoreGuard([runtime.store.verify, runtime.journal.verify], report)
    phases: list[list[Service]] = []
    bridge = Bridge(runtime.store, phases, Supervisor(phases), servers=[], own_ports=runtime.own_ports)
    checks = _checks(runtime, broker)
    public, *private = bridge.servers = build_http_servers(
        runtime, checks, lambda: bridge.draining, lambda: watchdog.stalled, inputs
    )
    workers = {name: build_crew_workers(runtime.steps, crew, report) for name, crew in runtime.crews.items()}
    listeners: list[Service] = [public, *(broker.consumers.values() if broker else [])]
    steps = [*build_common_workers(runtime.steps, report), *chain.from_iterable(workers.values())]
    if renewable is not None:
        reload = Reload(runtime, crews, broker, bridge.supervisor, listeners, steps, checks, workers)
        watch_file = settings.reload == "watch"
        watch = SettingsWatch(renewable, reload, report, watch_file=watch_file, reloading=manager.reloading)
        bridge.reload = watch.request
        phases.append([watch])  # stops first: it adds nothing to phases that have stopped
    phases += [
        listeners,
        steps,
        build_deliverers(runtime.steps, callbacks, broker.sender if broker else None, report),
        [broker.publisher] if broker else [],
        [*private, watchdog, guard],
    ]
    return bridge


def _checks(runtime: Runtime, broker: Broker | None) -> dict[str, HealthCheck]:
    checks: dict[str, HealthCheck] = {
        "store": runtime.store.health,
        "crews": crews_check(runtime.crews, runtime.store.cluster, runtime.clock),
        "clock": runtime.clock.health,
    }
    if broker is not None:
        checks |= {name: consumer.health for name, consumer in broker.consumers.items()}
        checks["broker_out"] = broker.publisher.health
    return checks
