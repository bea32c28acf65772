"""The composition root: settings → parts → run → stop, in order. The only file that knows everybody.

Resources open in one exit stack, parts are built by plain constructor calls, and a supervisor runs the long-lived ones.
They stop by phases: doors first, then the steps (a POST under way is finished, never cancelled), then deliveries, then
the connections to the broker, the store last.
"""

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import uuid_utils
from prometheus_client import CollectorRegistry

from bridge import __version__, documents, logs
from bridge.adapters.amqp_consumer import AmqpConsumer
from bridge.adapters.amqp_dead import DeadQueue
from bridge.adapters.amqp_dead import opened as open_dead_queue
from bridge.adapters.amqp_message import MessageRules
from bridge.adapters.amqp_probe import probe_broker
from bridge.adapters.amqp_publisher import AmqpPublisher
from bridge.adapters.callback_sender import CallbackSender, callback_sessions
from bridge.adapters.clock import SteadyClock
from bridge.adapters.crew_api import HttpCrewApi, crew_sessions
from bridge.adapters.http_amp import AmpApi
from bridge.adapters.http_api import RunsApi
from bridge.adapters.http_auth import Clients
from bridge.adapters.http_crews import CrewsApi
from bridge.adapters.http_deliveries import DeliveriesApi
from bridge.adapters.http_events import EventsApi
from bridge.adapters.http_flow_questions import FlowQuestionsApi
from bridge.adapters.http_hooks import HooksApi
from bridge.adapters.http_ops import OpsApi
from bridge.adapters.http_server import HttpServer, servers
from bridge.adapters.http_steering import SteeringApi
from bridge.adapters.metrics import CountedCrewApi, CountedSender, Counters
from bridge.adapters.name_lookup import NameLookup
from bridge.adapters.side_journal import open_journal
from bridge.adapters.store import SqlStore, migrate_store, open_store, probe_store
from bridge.adapters.watchdog import Watchdog
from bridge.core.crew_call import Webhooks
from bridge.core.learning import Learning
from bridge.core.model import Channel
from bridge.core.pace import Pace
from bridge.core.receivers import Shares
from bridge.core.share import Share
from bridge.ports import Accept, CrewInfo, Health, HealthCheck, Journal, Refuse, Sender, Service, Steer, Step
from bridge.settings import Amqp as AmqpSettings
from bridge.settings import Renewable, Renewal, SecretWatch, Settings, secret_values
from bridge.steps.accept import AcceptRequest, BudgetWait, RefuseMessage
from bridge.steps.crew import Crew
from bridge.steps.deliver import Deliver
from bridge.steps.doubt import Doubt
from bridge.steps.hint import TakeHint
from bridge.steps.inputs import CrewInputs
from bridge.steps.kickoff import Kickoff
from bridge.steps.late import Late
from bridge.steps.poll import Poll
from bridge.steps.probe import Probe
from bridge.steps.recover import Recover
from bridge.steps.relay import Relay
from bridge.steps.replay import replay
from bridge.steps.resume import Resume
from bridge.steps.share import KeepToShare
from bridge.steps.steer import SteerRun
from bridge.steps.sweep import Sweep
from bridge.supervisor import Supervisor
from bridge.wiring import (
    budgets_of,
    callback_rules,
    callback_secrets,
    client_rate,
    clients_of,
    crew_callback_secrets,
    crew_policy,
    flow_sources,
    hooks_of,
    link_options,
    listen_on,
    posts_at_once,
    topology_of,
)
from bridge.worker import Worker

LOOKS_AT_ONCE = 128  # per crew
TAKEN_UP_AT_ONCE = 2000  # runs that nobody follows
ANSWERS_AT_ONCE = 32  # of humans, to all crews
SENDS_AT_ONCE = 100  # to the broker: the window of unconfirmed publishes
CALLS = Shares(places=200)  # to callback URLs
BY_BROKER = (Channel.EXCHANGE, Channel.QUEUE, Channel.DEAD_LETTER)

clock = SteadyClock(time.time, time.monotonic)

log = structlog.get_logger()


class Wakes:
    """One event per worker, by name; setting it says "look now"."""

    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __getitem__(self, worker: str) -> asyncio.Event:
        return self._events[worker]

    def kickoff(self, crew: str) -> None:
        """There may be a run to start, or a place to start it in."""
        self._events[f"kickoff-{crew}"].set()

    def poll(self, crew: str) -> None:
        """The timetable has changed."""
        self._events[f"poll-{crew}"].set()

    def recovery(self) -> None:
        """There may be a run that nobody follows, an execution that is to be stopped, or an answer to be carried."""
        for name in ("recover", "late", "resume"):
            self._events[name].set()

    def deliver(self) -> None:
        """There may be something to deliver."""
        for name in ("deliver-broker", "deliver-callbacks"):
            self._events[name].set()


@dataclass
class Bridge:
    """A bridge that is put together."""

    phases: list[list[Service]]
    servers: Sequence[HttpServer]
    own_ports: set[int]
    draining: bool = False

    async def start(self) -> Supervisor:
        """Bind the ports, then run every part; raises `OSError` for a port that cannot be had."""
        for server in self.servers:
            await server.start()
            self.own_ports.add(server.port)
        supervisor = Supervisor(self.phases)
        supervisor.start()
        return supervisor


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
        log.info("started", version=__version__, crews=sorted(settings.crews), pid=os.getpid())
        await supervisor.wait(stop)
        bridge.draining = True
        log.info("stopping", parts_ended=supervisor.ended)
        await supervisor.stop(hurry)
    log.info("stopped")


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
    return open_dead_queue(amqp.url.get_secret_value(), topology_of(amqp))


async def try_connections(settings: Settings) -> dict[str, Health]:
    """Try everything that the bridge needs, by name; changes nothing anywhere."""
    found = {"store": await probe_store(settings.store.url.get_secret_value(), pooler=settings.store.pooler)}
    if settings.amqp is not None:
        found["broker"] = await probe_broker(settings.amqp.url.get_secret_value())
    async with crew_sessions() as sessions:
        for name, crew in settings.crews.items():
            api = HttpCrewApi(crew.url, crew.token.get_secret_value(), Pace(), sessions)
            found[f"crew {name}"] = await api.probe()
    return found


@asynccontextmanager
async def assembled(settings: Settings, renewable: Renewable | None = None, *, migrate: bool) -> AsyncIterator[Bridge]:
    """Open what must be closed again, and build every part; `renewable`: secrets that may change meanwhile."""
    process = f"{os.uname().nodename}-{os.getpid()}-{str(uuid_utils.uuid4())[:8]}"
    async with AsyncExitStack() as stack:
        counters = Counters(registry := CollectorRegistry())
        store = await stack.enter_async_context(_store(settings, process, counters, migrate=migrate))
        journal = await stack.enter_async_context(open_journal(settings.store.url.get_secret_value()))
        webhooks = None if settings.public_url is None else Webhooks(settings.public_url, store.key)
        share = Share()
        renewals: list[Renewal] = [lambda renewed: logs.learn(secret_values(renewed))]
        crews = await _crews(settings, webhooks, counters, share, renewals, stack)
        await replay(journal, crews, store, clock)
        wakes = Wakes()
        own_ports = set[int]()
        callbacks = await _callback_sender(settings, counters, own_ports, renewals, stack)
        bridge = _assemble(
            settings, store, crews, wakes, callbacks, own_ports, counters, registry, process, journal, share, renewals
        )
        if renewable is not None:
            bridge.phases[-1].append(SecretWatch(renewable, renewals))
        yield bridge


def _store(
    settings: Settings, process: str, counters: Counters, *, migrate: bool
) -> AbstractAsyncContextManager[SqlStore]:
    url, pooler = settings.store.url.get_secret_value(), settings.store.pooler
    return open_store(url, process, clock(), migrate=migrate, pooler=pooler, on_stale=counters.stale_writes.inc)


def _assemble(
    settings: Settings,
    store: SqlStore,
    crews: Mapping[str, Crew],
    wakes: Wakes,
    callbacks: Sender,
    own_ports: set[int],
    counters: Counters,
    registry: CollectorRegistry,
    process: str,
    journal: Journal,
    share: Share,
    renewals: list[Renewal],
) -> Bridge:
    inputs = CrewInputs(crews, clock)
    accept = AcceptRequest(store, crews, callback_rules(settings), clock, _new_id, inputs.check, wakes.kickoff)
    deliver = Deliver(
        "deliver-callbacks", lambda room, now: store.claim_callbacks(room, CALLS, now), callbacks, store, clock,
        wakes.deliver, results_exchange=settings.amqp is not None,
    )  # fmt: skip
    deliverers = [_worker(deliver, CALLS.places, wakes)]
    bridge = Bridge(phases=[], servers=[], own_ports=own_ports)
    checks: dict[str, HealthCheck] = {"store": store.health, "crews": _crews_check(crews)}
    doors: list[Service] = []
    links: list[Service] = []
    steer = SteerRun(crews, store, clock, wakes.kickoff, wakes.deliver, wakes.recovery)
    if settings.amqp is not None:
        refuse = RefuseMessage(store, settings.amqp.dead, clock, _new_id, wakes.deliver)
        consumer = _consumer(settings.amqp, accept, refuse, steer, process)
        publisher = _publisher(settings.amqp, process)
        counted = CountedSender(publisher, counters)
        publish = Deliver(
            "deliver-broker", partial(store.claim_deliveries, BY_BROKER), counted, store, clock, wakes.deliver
        )
        deliverers.append(_worker(publish, SENDS_AT_ONCE, wakes))
        doors, links = [consumer], [publisher]
        checks |= {"broker_in": consumer.health, "broker_out": publisher.health}
    clients = Clients(clients_of(settings), client_rate(settings))
    watchdog = Watchdog()
    described = {"openapi": documents.openapi(), "asyncapi": documents.asyncapi()}
    ops = OpsApi(checks, lambda: bridge.draining, store, registry, lambda: watchdog.stalled, described)
    hint = TakeHint(store.key, crews, store, clock, wakes.poll, wakes.recovery, wakes.deliver)
    flows = FlowQuestionsApi(flow_sources(settings), hint.take_flow_question, clock)
    crews_api = CrewsApi(partial(_crew_infos, settings, crews), inputs, clients)
    hooks = HooksApi(accept, hooks_of(settings), clock)
    renewals += [
        lambda renewed: clients.renew(clients_of(renewed)),
        lambda renewed: hooks.renew(hooks_of(renewed)),
        lambda renewed: flows.renew(flow_sources(renewed)),
    ]
    deliveries = DeliveriesApi(store, clients, clock, wakes.deliver)
    wait_of = BudgetWait(crews, store, clock)
    runs, steering = RunsApi(accept, wait_of, store, clients), SteeringApi(steer, store, clients)
    apis = (runs, steering, deliveries, crews_api, EventsApi(store, clients, clock), AmpApi(hint), flows, hooks)
    routes = [route for api in apis for route in api.routes()]
    bridge.servers = servers(listen_on(settings), routes, ops.routes(), clients)
    steps = _steps(settings, store, crews, wakes, journal, share)
    if store.shared:
        keep = KeepToShare(share, crews, store, clock, wakes.recovery)
        steps += [_worker(keep, 1, wakes), _worker(Relay(store, hint.passed_on), 50, wakes)]
    bridge.phases = [[*doors, *bridge.servers[:1]], steps, deliverers, links, [*bridge.servers[1:], watchdog]]
    return bridge


def _consumer(amqp: AmqpSettings, accept: Accept, refuse: Refuse, steer: Steer, process: str) -> AmqpConsumer:
    rules = MessageRules(amqp.requests, amqp.max_message, amqp.reply_to)
    return AmqpConsumer(link_options(amqp, process), topology_of(amqp), rules, amqp.prefetch, accept, refuse, steer)


def _publisher(amqp: AmqpSettings, process: str) -> AmqpPublisher:
    return AmqpPublisher(link_options(amqp, process), topology_of(amqp), amqp.event_mode)


def _steps(
    settings: Settings, store: SqlStore, crews: Mapping[str, Crew], wakes: Wakes, journal: Journal, share: Share
) -> list[Service]:
    """A worker per crew and step, so that a slow crew holds up nobody else; one for each of the common steps."""
    workers: list[Service] = [
        _worker(Sweep(crews, store, clock, settings.store.retention, wakes.recovery), 1, wakes),
        _worker(Recover(crews, store, clock, wakes.poll, share), TAKEN_UP_AT_ONCE, wakes),
        _worker(Doubt(crews, store, clock, wakes.deliver), 10, wakes),
        _worker(Late(crews, store, clock, wakes.deliver), 10, wakes),
        _worker(Resume(crews, store, clock, wakes.deliver), ANSWERS_AT_ONCE, wakes),
    ]
    for name, crew in crews.items():
        kickoff_wake, poll_wake = wakes[f"kickoff-{name}"].set, wakes[f"poll-{name}"].set
        kickoff = Kickoff(crew, store, clock, poll_wake, wakes.deliver, journal)
        poll = Poll(crew, store, clock, kickoff_wake, wakes.deliver, wakes.recovery)
        probe = Probe(crew, clock, kickoff_wake, poll_wake)
        workers += [_worker(kickoff, posts_at_once(settings.crews[name]), wakes), _worker(poll, LOOKS_AT_ONCE, wakes)]
        workers.append(_worker(probe, 1, wakes))
    return workers


def _worker(step: Step[Any], capacity: int, wakes: Wakes) -> Service:
    return Worker(step, capacity, wakes[step.name])


async def _crews(
    settings: Settings,
    webhooks: Webhooks | None,
    counters: Counters,
    share: Share,
    renewals: list[Renewal],
    stack: AsyncExitStack,
) -> dict[str, Crew]:
    sessions = await stack.enter_async_context(crew_sessions())
    crews = {}
    for name, crew in settings.crews.items():
        pace = Pace(crew.requests_per_second, share)
        api = HttpCrewApi(crew.url, crew.token.get_secret_value(), pace, sessions, clock=clock)
        renewals.append(partial(_renew_token, api, name))
        policy = crew_policy(settings, name)
        counted, learning = CountedCrewApi(api, name, counters), Learning(policy)
        limits = budgets_of(settings, name)
        crews[name] = Crew(
            name, counted, policy, crew.max_running, learning, pace=pace, budgets=limits, webhooks=webhooks
        )
        counters.show_crew(name, partial(crews[name].figures, clock))
    return crews


def _renew_token(api: HttpCrewApi, name: str, renewed: Settings) -> None:
    api.use_token(renewed.crews[name].token.get_secret_value())


def _crew_infos(settings: Settings, crews: Mapping[str, Crew]) -> list[CrewInfo]:
    return [
        CrewInfo(name, settings.crews[name].kind, crew.paused, crew.learning.learned()) for name, crew in crews.items()
    ]


async def _callback_sender(
    settings: Settings, counters: Counters, own_ports: set[int], renewals: list[Renewal], stack: AsyncExitStack
) -> Sender:
    callbacks = settings.callbacks
    stack.push_async_callback((names := NameLookup()).close)
    sessions = await stack.enter_async_context(
        callback_sessions(allow_private=callbacks.allow_private, resolver=names, own_ports=own_ports)
    )
    own = crew_callback_secrets(settings)
    sender = CallbackSender(sessions, callback_secrets(settings), __version__, time.time, own)
    renewals.append(lambda renewed: sender.sign_with(callback_secrets(renewed), crew_callback_secrets(renewed)))
    return CountedSender(sender, counters)


def _crews_check(crews: Mapping[str, Crew]) -> HealthCheck:
    """Always ok: a crew that cannot be used is no reason to take the bridge out of service."""

    async def check() -> Health:
        closed = [
            f"{name} paused: {crew.gate.reason.partition(':')[0]}" for name, crew in crews.items() if crew.gate.closed
        ]
        return Health(ok=True, detail="; ".join(closed) or "all usable")

    return check


def _new_id() -> str:
    return str(uuid_utils.uuid7())
