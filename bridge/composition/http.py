"""Build the HTTP servers with their routes, and the sender of callbacks."""

import math
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from bridge import __version__, documents
from bridge.adapters.amqp.dead_letters import DeadLetterQueue
from bridge.adapters.callbacks.sender import CallbackSender, callback_sessions
from bridge.adapters.clock import wall_clock
from bridge.adapters.http.api.bulk_commands import BulkCommandsApi
from bridge.adapters.http.api.client import ClientApi
from bridge.adapters.http.api.commands import CommandsApi
from bridge.adapters.http.api.crews import CrewsApi
from bridge.adapters.http.api.dead_letters import DeadLettersApi
from bridge.adapters.http.api.deliveries import DeliveriesApi
from bridge.adapters.http.api.events import EventsApi
from bridge.adapters.http.api.receivers import ReceiversApi
from bridge.adapters.http.api.runs import RunsApi
from bridge.adapters.http.api.stats import StatsApi
from bridge.adapters.http.auth import Clients
from bridge.adapters.http.console import ConsoleFiles
from bridge.adapters.http.memory import HttpMemory
from bridge.adapters.http.ops import OpsApi
from bridge.adapters.http.reference import ReferencePage
from bridge.adapters.http.server import HttpServer, build_servers
from bridge.adapters.http.webhooks.crew import CrewWebhooksApi
from bridge.adapters.http.webhooks.flow import FlowQuestionsApi
from bridge.adapters.http.webhooks.hooks import HooksApi
from bridge.composition.crews import crew_infos
from bridge.composition.policies import (
    base_path,
    broker_urls,
    build_clients,
    build_hooks,
    build_topology,
    client_rate,
    flow_sources,
    listen_on,
    proxy_rule,
    signing_secrets,
)
from bridge.composition.runtime import Runtime
from bridge.config import Settings
from bridge.documents.reference import POLICY, render_reference
from bridge.observability.metrics import CountedSender
from bridge.observability.store_gauges import StoreGauges
from bridge.ports.deliveries import Sender
from bridge.ports.lifecycle import HealthCheck
from bridge.steps.runs.input_check import CrewInputs


async def build_callback_sender(runtime: Runtime, stack: AsyncExitStack) -> Sender:
    """Build the sender of callbacks; `stack` closes its sessions."""
    settings = runtime.settings
    sessions = await stack.enter_async_context(
        callback_sessions(allow_private=settings.callbacks.allow_private, own_ports=runtime.own_ports)
    )
    sender = CallbackSender(
        sessions, signing_secrets(settings), __version__, wall_clock, proxy_rule(settings.callbacks.proxy)
    )
    runtime.renewals.append(lambda renewed: sender.use(signing_secrets(renewed), proxy_rule(renewed.callbacks.proxy)))
    return CountedSender(sender, runtime.counters, runtime.redactor, runtime.clock)


def build_http_servers(
    runtime: Runtime,
    checks: Mapping[str, HealthCheck],
    draining: Callable[[], bool],
    stalled: Callable[[], bool],
    inputs: CrewInputs,
) -> Sequence[HttpServer]:
    """Build the servers: the public one first, then, with `ops_port`, the one for operators."""
    settings, counters = runtime.settings, runtime.counters
    published = {"openapi": documents.openapi(settings.public_url), "asyncapi": documents.asyncapi()}
    gauges = StoreGauges(
        runtime.store.queries,
        counters.registry,
        lambda: {name: crew.budgets.crew for name, crew in runtime.crews.items()},
        runtime.clock,
    )
    ops = OpsApi(checks, draining, gauges, counters.registry, stalled, published)
    listen = listen_on(settings, _max_open_files())
    clients = Clients(build_clients(settings), client_rate(settings), listen.max_connections)
    runtime.renewals.append(lambda renewed: clients.renew(build_clients(renewed)))
    api = _api_routes(runtime, clients, inputs, gauges)
    public, private = [*api, *_webhook_routes(runtime, inputs)], ops.routes()
    private += ReferencePage(lambda: render_reference(*published.values()), POLICY).routes()
    if settings.http.console:
        private += ConsoleFiles().routes()
        if listen.ops_port is not None:
            private += api  # the page reaches only its own origin
    memory = HttpMemory(values=runtime.values)
    return build_servers(listen, public, private, clients, counters.report, memory)


def _max_open_files() -> float:
    """Return how many files and sockets this process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _api_routes(runtime: Runtime, clients: Clients, inputs: CrewInputs, gauges: StoreGauges) -> list[web.RouteDef]:
    """Return the routes of the client API, all of which require a client's token."""
    settings, store, steps = runtime.settings, runtime.store, runtime.steps
    accept, count = steps.accept(inputs.check), partial(runtime.counters.count_request, "http")
    apis = (
        RunsApi(accept, steps.explain_waiting, store.queries, clients, base_path=base_path(settings), count=count),
        CommandsApi(steps.apply_command, steps.explain_waiting, store.queries, clients, runtime.clock),
        BulkCommandsApi(steps.apply_command, accept, store.queries, clients, count),
        DeliveriesApi(store.queries, clients, runtime.clock, runtime.signals.deliver),
        ReceiversApi(store.queries, clients, runtime.signals.deliver),
        CrewsApi(partial(crew_infos, runtime), inputs, gauges.refresh, store.queries, clients),
        StatsApi(store.queries, runtime.clock, clients),
        DeadLettersApi(_dead_letters(settings), clients),
        EventsApi(store.queries, clients),
        ClientApi(clients),
    )
    return [route for api in apis for route in api.routes()]


def _dead_letters(settings: Settings) -> DeadLetterQueue | None:
    if settings.amqp is None:
        return None
    return DeadLetterQueue(broker_urls(settings.amqp), build_topology(settings.amqp, settings.sources))


def _webhook_routes(runtime: Runtime, inputs: CrewInputs) -> list[web.RouteDef]:
    """Return the routes that other systems call, authenticated by a signature or the path."""
    settings, webhooks = runtime.settings, runtime.steps.receive_webhooks
    count, path = partial(runtime.counters.count_request, "hook"), base_path(settings)
    hooks = HooksApi(runtime.steps.accept(inputs.check), build_hooks(settings), wall_clock, path, count)
    flows = FlowQuestionsApi(flow_sources(settings), webhooks.flow_question, wall_clock, runtime.redactor)
    runtime.renewals.append(lambda renewed: hooks.renew(build_hooks(renewed)))
    runtime.renewals.append(lambda renewed: flows.renew(flow_sources(renewed)))
    crew_webhooks = CrewWebhooksApi(webhooks.crew_webhook, runtime.redactor)
    return [*crew_webhooks.routes(), *flows.routes(), *hooks.routes()]
