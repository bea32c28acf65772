"""The composition root: settings → parts. The only file that knows everybody.

What must be closed again is opened in one exit stack; everything else is a plain constructor call.
"""

import math
import os
import resource
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uuid_utils
from aiohttp import web
from prometheus_client import CollectorRegistry

from bridge import __version__, documents
from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.callbacks.resolver import SystemResolver
from bridge.adapters.callbacks.sender import CallbackSender, callback_sessions
from bridge.adapters.clock import SteadyClock, steady_clock, wall_clock
from bridge.adapters.crew_api import HttpCrewApi, crew_sessions
from bridge.adapters.http.api.commands import CommandsApi
from bridge.adapters.http.api.crews import CrewsApi
from bridge.adapters.http.api.deliveries import DeliveriesApi
from bridge.adapters.http.api.events import EventsApi
from bridge.adapters.http.api.runs import RunsApi
from bridge.adapters.http.auth import Clients
from bridge.adapters.http.ops import OpsApi
from bridge.adapters.http.server import HttpServer, build_servers
from bridge.adapters.http.webhooks.crew import CrewWebhooksApi
from bridge.adapters.http.webhooks.flow import FlowQuestionsApi
from bridge.adapters.http.webhooks.hooks import HooksApi
from bridge.adapters.kickoff_journal import KickoffJournal, NullJournal, open_journal
from bridge.adapters.store import SqlStore, open_store
from bridge.adapters.store.guard import StoreGuard
from bridge.composition.policies import (
    build_budgets,
    build_clients,
    build_hooks,
    build_topology,
    callback_rules,
    callback_secrets,
    client_rate,
    crew_callback_secrets,
    crew_policy,
    flow_sources,
    link_options,
    listen_on,
    orphaned_policy,
    posts_at_once,
)
from bridge.config import Amqp as AmqpSettings
from bridge.config import Renewable, Renewal, SecretWatch, Settings, secret_values
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.payloads import Webhooks
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.delivery.model import Channel
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.polling.planner import PollPlanner
from bridge.core.redaction import Redactor
from bridge.observability import logging as logs
from bridge.observability.metrics import CountedCrewApi, CountedSender, Counters
from bridge.observability.watchdog import Watchdog
from bridge.ports.crew_api import CrewInfo
from bridge.ports.deliveries import Sender
from bridge.ports.inbound import Accept, CommandRun
from bridge.ports.lifecycle import Health, HealthCheck
from bridge.ports.processing import Service, Step
from bridge.ports.store import Store
from bridge.signals import Signals
from bridge.steps._crew import Crew
from bridge.steps.crew_webhooks import HandleCrewWebhook
from bridge.steps.delivery import DeliverEvents
from bridge.steps.maintenance.crew_probe import Probe
from bridge.steps.maintenance.housekeeping import Housekeeping
from bridge.steps.maintenance.rebalance import Rebalance
from bridge.steps.maintenance.run_time_stats import SyncRunTimes
from bridge.steps.pending_questions import AskPendingQuestions
from bridge.steps.recovery.in_doubt import ResolveInDoubt
from bridge.steps.recovery.journal import replay_journal
from bridge.steps.recovery.late_results import PollLateResults
from bridge.steps.recovery.recover import Recover
from bridge.steps.runs.accept import AcceptRequest, BudgetWait, CheckInputs, RefuseMessage
from bridge.steps.runs.commands import ApplyCommand
from bridge.steps.runs.deferred_commands import ApplyCommands, TakeCommand
from bridge.steps.runs.human_input import SubmitHumanInput
from bridge.steps.runs.input_check import CrewInputs, SharedCheck
from bridge.steps.runs.kickoff import Kickoff
from bridge.steps.runs.poll import Poll
from bridge.steps.webhook_relay import ProcessRelayedWebhooks
from bridge.supervisor import Supervisor
from bridge.worker import Worker

MAX_CONCURRENT_POLLS = 128  # per crew
RECOVER_BATCH = 2000  # runs that nobody follows
MAX_CONCURRENT_HUMAN_INPUTS = 32  # of humans, per crew
MAX_CONCURRENT_LATE_POLLS = 10  # per crew
MAX_UNCONFIRMED_PUBLISHES = 100  # to the broker: the window of unconfirmed publishes
CALLS = ConcurrencyLimits(slots=200)  # to callback URLs
WAIT_FOR_INPUTS = 4  # one in so many messages of the prefetch count may wait for what crews say of their inputs
BY_BROKER = (Channel.EXCHANGE, Channel.QUEUE, Channel.DEAD_LETTER)


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


@dataclass(frozen=True)
class Site:
    """What the parts are built on."""

    settings: Settings
    process: str
    clock: SteadyClock
    counters: Counters
    store: SqlStore
    journal: KickoffJournal | NullJournal
    signals: Signals = field(default_factory=Signals)
    crews: dict[str, Crew] = field(default_factory=dict)
    own_ports: set[int] = field(default_factory=set)
    redactor: Redactor = field(default_factory=Redactor)
    renewals: list[Renewal] = field(default_factory=list)
    """What takes up secrets that have changed."""

    def worker(self, step: Step[Any], capacity: int) -> Service:
        """What drives a step."""
        return Worker(step, capacity, self.signals[step.name], self.counters.report)


@asynccontextmanager
async def assembled(settings: Settings, renewable: Renewable | None = None, *, migrate: bool) -> AsyncIterator[Bridge]:
    """Open what must be closed again, and build every part; `renewable`: secrets that may change meanwhile."""
    async with AsyncExitStack() as stack:
        site = await _opened(settings, stack, migrate=migrate)
        site.redactor.learn(secret_values(settings))
        site.renewals.append(lambda renewed: logs.learn(secret_values(renewed)))
        site.renewals.append(lambda renewed: site.redactor.learn(secret_values(renewed)))
        await _add_crews(site, stack)
        await replay_journal(site.journal, site.crews, site.store, site.clock, site.counters.report)
        bridge = _put_together(site, await _callback_sender(site, stack))
        if renewable is not None:
            bridge.phases[-1].append(SecretWatch(renewable, site.renewals, site.counters.report))
        yield bridge


async def _opened(settings: Settings, stack: AsyncExitStack, *, migrate: bool) -> Site:
    process = f"{os.uname().nodename}-{os.getpid()}-{str(uuid_utils.uuid4())[:8]}"
    counters, url = Counters(CollectorRegistry()), settings.store.url.get_secret_value()
    clock = steady_clock()
    on_stale, pooler = counters.stale_writes.inc, settings.store.pooler
    opening = open_store(
        url,
        process,
        clock(),
        migrate=migrate,
        pooler=pooler,
        on_stale=on_stale,
        crews=settings.crews,
        report=counters.report,
    )
    store = await stack.enter_async_context(opening)
    return Site(settings, process, clock, counters, store, await stack.enter_async_context(open_journal(url)))


# The outside ------------------------------------------------------------------------------------------------------


async def _add_crews(site: Site, stack: AsyncExitStack) -> None:
    settings = site.settings
    webhooks = None if settings.public_url is None else Webhooks(settings.public_url, site.store.key)
    sessions = await stack.enter_async_context(crew_sessions())
    for name, crew in settings.crews.items():
        share = FairShare()
        rate_limiter = RateLimiter(crew.requests_per_second, share)
        api = HttpCrewApi(
            crew.url, crew.token.get_secret_value(), rate_limiter, sessions, site.clock, redactor=site.redactor
        )
        site.renewals.append(partial(_renew_token, api, name))
        policy, limits = crew_policy(settings, name), build_budgets(settings, name)
        counted, planner = CountedCrewApi(api, name, site.counters), PollPlanner(policy)
        site.crews[name] = Crew(
            name,
            counted,
            policy,
            crew.max_running,
            planner,
            rate_limiter=rate_limiter,
            share=share,
            budgets=limits,
            webhooks=webhooks,
        )
        site.counters.show_crew(name, partial(site.crews[name].figures, site.clock))


def _renew_token(api: HttpCrewApi, name: str, renewed: Settings) -> None:
    api.use_token(renewed.crews[name].token.get_secret_value())


async def _callback_sender(site: Site, stack: AsyncExitStack) -> Sender:
    settings = site.settings
    stack.push_async_callback((names := SystemResolver()).close)
    sessions = await stack.enter_async_context(
        callback_sessions(allow_private=settings.callbacks.allow_private, resolver=names, own_ports=site.own_ports)
    )
    own = crew_callback_secrets(settings)
    sender = CallbackSender(sessions, callback_secrets(settings), __version__, wall_clock, own)
    site.renewals.append(lambda renewed: sender.use_secrets(callback_secrets(renewed), crew_callback_secrets(renewed)))
    return CountedSender(sender, site.counters, site.redactor)


@dataclass(frozen=True)
class Broker:
    """The parts that talk to RabbitMQ."""

    consumer: AmqpConsumer
    publisher: AmqpPublisher
    deliverer: Service


def _accept(site: Site, check_inputs: CheckInputs) -> Accept:
    rules, wake = callback_rules(site.settings), site.signals.kickoff
    return AcceptRequest(site.store, site.crews, rules, site.clock, _new_id, check_inputs, wake, site.redactor)


def _broker(site: Site, amqp: AmqpSettings, inputs: CrewInputs, apply_command: CommandRun) -> Broker:
    link, topology = link_options(amqp, site.process, site.counters.report), build_topology(amqp)
    rules = MessageRules(amqp.requests, amqp.max_message, amqp.reply_to)
    accept = _accept(site, SharedCheck(inputs, max(1, amqp.prefetch // WAIT_FOR_INPUTS)))
    take = TakeCommand(apply_command, site.store.commands, site.clock)
    refuse = RefuseMessage(site.store, amqp.dead, site.clock, _new_id, site.signals.deliver)
    consumer = AmqpConsumer(link, topology, rules, amqp.prefetch, accept, refuse, take, site.store.probe)
    publisher = AmqpPublisher(link, topology, amqp.event_mode)
    site.counters.show_link("consume", lambda: consumer.ready)
    site.counters.show_link("publish", lambda: publisher.ready)
    publish = DeliverEvents(
        "deliver-broker", partial(site.store.claim_deliveries, BY_BROKER),
        CountedSender(publisher, site.counters, site.redactor), site.store, site.clock, site.signals.deliver,
    )  # fmt: skip
    return Broker(consumer, publisher, site.worker(publish, MAX_UNCONFIRMED_PUBLISHES))


# The whole --------------------------------------------------------------------------------------------------------


def _put_together(site: Site, callbacks: Sender) -> Bridge:
    settings, clock, store, crews, signals = site.settings, site.clock, site.store, site.crews, site.signals
    inputs = CrewInputs(crews, clock)
    accept = _accept(site, inputs.check)
    apply_command = ApplyCommand(
        crews, store, clock, signals.kickoff, signals.deliver, signals.recover, orphaned_policy(settings)
    )
    webhook = HandleCrewWebhook(store.key, crews, store, clock, signals.poll, signals.recover, signals.deliver)
    broker = None if settings.amqp is None else _broker(site, settings.amqp, inputs, apply_command)
    watchdog, guard = Watchdog(), StoreGuard([store.verify, site.journal.verify])
    bridge = Bridge(phases=[], servers=[], own_ports=site.own_ports)
    ops = OpsApi(
        _checks(site, broker), lambda: bridge.draining, store, site.counters.registry, lambda: watchdog.stalled,
        {"openapi": documents.openapi(), "asyncapi": documents.asyncapi()},
    )  # fmt: skip
    listen = listen_on(settings, _open_files())
    clients = Clients(build_clients(settings), client_rate(settings), listen.max_connections)
    site.renewals.append(lambda renewed: clients.renew(build_clients(renewed)))
    routes = _routes(site, clients, accept, apply_command, webhook, inputs)
    report = site.counters.report
    public, *private = bridge.servers = build_servers(listen, routes, ops.routes(), clients, report)
    deliver = DeliverEvents(
        "deliver-callbacks", lambda room, now: store.claim_callbacks(room, CALLS, now), callbacks, store, clock,
        signals.deliver, results_exchange=broker is not None,
    )  # fmt: skip
    deliverers = [site.worker(deliver, CALLS.slots), *([broker.deliverer] if broker else [])]
    doors: list[Service] = [public, *([broker.consumer] if broker else [])]
    links: list[Service] = [broker.publisher] if broker else []
    bridge.phases = [doors, _steps(site, webhook, apply_command), deliverers, links, [*private, watchdog, guard]]
    return bridge


def _open_files() -> float:
    """Return how many files and sockets this process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _checks(site: Site, broker: Broker | None) -> dict[str, HealthCheck]:
    checks: dict[str, HealthCheck] = {
        "store": site.store.health, "crews": _crews_check(site.crews, site.store), "clock": site.clock.health
    }  # fmt: skip
    if broker is not None:
        checks |= {"broker_in": broker.consumer.health, "broker_out": broker.publisher.health}
    return checks


def _crews_check(crews: Mapping[str, Crew], store: Store) -> HealthCheck:
    async def check() -> Health:
        wrong = [f"{name} paused: {crew.paused}" for name, crew in crews.items() if crew.paused]
        unserved = sorted((await store.unserved()).items())
        wrong += [f"{name} in no bridge's settings, runs waiting: {runs}" for name, runs in unserved]
        return Health(ok=not wrong, detail="; ".join(wrong) or "all usable")

    return check


def _routes(
    site: Site,
    clients: Clients,
    accept: Accept,
    apply_command: CommandRun,
    webhook: HandleCrewWebhook,
    inputs: CrewInputs,
) -> list[web.RouteDef]:
    settings, clock, store, deliver = site.settings, site.clock, site.store, site.signals.deliver
    hooks = HooksApi(accept, build_hooks(settings), wall_clock)
    flows = FlowQuestionsApi(flow_sources(settings), webhook.take_flow_question, wall_clock, site.redactor)
    site.renewals.append(lambda renewed: hooks.renew(build_hooks(renewed)))
    site.renewals.append(lambda renewed: flows.renew(flow_sources(renewed)))
    apis = (
        RunsApi(accept, BudgetWait(site.crews, store, clock), store, clients),
        CommandsApi(apply_command, store, clients),
        DeliveriesApi(store, clients, clock, deliver),
        CrewsApi(partial(_crew_infos, settings, site.crews), inputs, clients),
        EventsApi(store, clients),
        CrewWebhooksApi(webhook, site.redactor),
        flows,
        hooks,
    )
    return [route for api in apis for route in api.routes()]


def _crew_infos(settings: Settings, crews: Mapping[str, Crew]) -> list[CrewInfo]:
    return [
        CrewInfo(name, settings.crews[name].kind, crew.paused, crew.planner.run_time_stats())
        for name, crew in crews.items()
    ]


def _steps(site: Site, webhook: HandleCrewWebhook, apply_command: CommandRun) -> list[Service]:
    """A worker per crew and step, so that a slow crew holds up nobody else; one for each of the common steps."""
    clock, store, crews, signals = site.clock, site.store, site.crews, site.signals
    workers = [
        site.worker(Housekeeping(crews, store, clock, site.settings.store.retention, signals.recover), 1),
        site.worker(Recover(crews, store, clock, signals.poll), RECOVER_BATCH),
        site.worker(SyncRunTimes(crews, store, clock, shared=store.shared), 1),
        site.worker(ResolveInDoubt(crews, store, clock, signals.deliver), 10),
        site.worker(ApplyCommands(apply_command, store.commands, clock), 10),
        site.worker(AskPendingQuestions(crews, store, clock, webhook.ask), 10),
    ]
    for crew in crews.values():
        workers += _steps_of(site, crew)
    if store.shared:
        workers.append(site.worker(Rebalance(crews, store, clock, signals.recover), 1))
        workers.append(site.worker(ProcessRelayedWebhooks(store, webhook.handle_relayed), 50))
    return workers


def _steps_of(site: Site, crew: Crew) -> list[Service]:
    clock, store, signals = site.clock, site.store, site.signals
    to_kickoff, to_poll = partial(signals.kickoff, crew.name), partial(signals.poll, crew.name)
    kickoff = Kickoff(crew, store, clock, to_poll, signals.deliver, site.journal)
    poll = Poll(crew, store, clock, to_kickoff, signals.deliver, signals.recover)
    probe = Probe(crew, clock, to_kickoff, to_poll)
    posts = posts_at_once(site.settings.crews[crew.name])
    return [
        site.worker(kickoff, posts),
        site.worker(poll, MAX_CONCURRENT_POLLS),
        site.worker(probe, 1),
        site.worker(PollLateResults(crew, store, clock, signals.deliver), MAX_CONCURRENT_LATE_POLLS),
        site.worker(SubmitHumanInput(crew, store, clock, signals.deliver), MAX_CONCURRENT_HUMAN_INPUTS),
    ]


def _new_id() -> str:
    return str(uuid_utils.uuid7())
