"""Convert settings to the rules and values that parts are built from, without opening or running anything."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.topology import Binding, Topology
from bridge.adapters.callbacks.sender import SigningSecrets
from bridge.adapters.callbacks.signing import build_checker
from bridge.adapters.http.auth import Client, Role, client_source, digest
from bridge.adapters.http.server import Listen
from bridge.adapters.http.webhooks.flow import FlowSource
from bridge.adapters.http_client import DIRECT, ProxyRule
from bridge.config import Amqp as AmqpSettings
from bridge.config import Budget as BudgetSettings
from bridge.config import Human as HumanSettings
from bridge.config import Settings
from bridge.config import Source as SourceSettings
from bridge.config.amqp import Bind
from bridge.core.callback_url import CallbackRules
from bridge.core.crew_policy import CrewPolicy, DoubtPolicy, PermanentDestination
from bridge.core.delivery.outcome import DEFAULT_RULES, DeliveryRules
from bridge.core.http.limits import Rate
from bridge.core.inbound.hook import Hook
from bridge.core.inbound.source import Source
from bridge.core.runs.budget import Budget, Budgets
from bridge.ports.lifecycle import ReportFault

MAX_CONNECTIONS = 1000  # per port of the HTTP API
MIN_CONNECTIONS = 50  # per port, whatever the limit on open files
OTHER_FILES = 400  # files and sockets of all other parts: store, broker, crews, receivers


def link_options(amqp: AmqpSettings, process: str, report: ReportFault) -> LinkOptions:
    """Return where the broker is, and the name of this process there."""
    return LinkOptions(broker_urls(amqp), process, report=report)


def broker_urls(amqp: AmqpSettings) -> list[str]:
    """Return the URLs of the broker's nodes, in the order in which to try them."""
    return [url.get_secret_value() for url in amqp.url]


def build_topology(amqp: AmqpSettings, sources: Mapping[str, SourceSettings]) -> Topology:
    """Return the exchanges and queues that must exist on the broker."""
    return Topology(
        amqp.requests,
        amqp.results or "",
        amqp.dead,
        amqp.declare,
        _bindings(amqp.bind),
        publishes_results=amqp.results is not None,
        sources=frozenset(source.queue for source in sources.values()),
    )


def source_topology(topology: Topology, source: SourceSettings) -> Topology:
    """Return the same with the queue of a source for its consumer."""
    return topology.for_source(source.queue, _bindings(source.bind))


def _bindings(bind: Sequence[Bind]) -> tuple[Binding, ...]:
    return tuple(Binding(one.exchange, one.key) for one in bind)


@dataclass(slots=True)
class StepRules:
    """What the settings define for the steps of all crews.

    `orphaned`: for runs whose crew is no longer configured, so that their events still reach destinations; `retention`:
    seconds after a run's end.
    """

    callbacks: CallbackRules
    orphaned: CrewPolicy
    retention: float
    delivery: DeliveryRules = DEFAULT_RULES

    def use(self, rules: "StepRules") -> None:
        """Apply the rules of changed settings from now on."""
        self.callbacks, self.orphaned = rules.callbacks, rules.orphaned


def step_rules(settings: Settings) -> StepRules:
    """Return the rules that the settings define for steps."""
    orphaned = CrewPolicy(**_event_rules(settings, None))
    amqp = settings.amqp
    notice_key = None if amqp is None or amqp.results is None else amqp.routing_key
    delivery = DeliveryRules(math.inf if amqp is None else amqp.unroutable_after, notice_key)
    return StepRules(callback_rules(settings), orphaned, settings.store.retention, delivery)


def _event_rules(settings: Settings, crew: str | None) -> dict[str, Any]:
    """Return how events are built and where they go; `crew` None: those of crews that are not configured."""
    rules: dict[str, Any] = {
        "destinations": tuple(
            PermanentDestination(destination.url.get_secret_value(), destination.events)
            for destination in settings.destinations.values()
            if destination.crews is None or crew in destination.crews
        ),
        "max_event_bytes": settings.callbacks.max_event_bytes,
        "api_url": api_url(settings),
    }
    if settings.amqp is not None and settings.amqp.results is not None:
        rules |= {"results_exchange": True, "routing_key": settings.amqp.routing_key}
    return rules


def api_url(settings: Settings) -> str:
    """Return the API's URL for receivers of events: the public URL, or where it listens."""
    host = settings.http.host
    return settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.http.port}"


def crew_policy(settings: Settings, name: str) -> CrewPolicy:
    """Return the policy that the settings define for a crew."""
    crew = settings.crews[name]
    human = crew.human or HumanSettings()
    return CrewPolicy(
        deadline=crew.deadline,
        start_by=crew.start_by,
        in_doubt=DoubtPolicy(crew.in_doubt),
        in_doubt_after=crew.in_doubt_after,
        human_input=crew.human_input,
        optional_events=frozenset(crew.events),
        callback_url=None if crew.callback_url is None else crew.callback_url.get_secret_value(),
        **_event_rules(settings, name),
        max_response=crew.max_response,
        poll_per_run=crew.poll.per_run,
        poll_min_interval=crew.poll.min_interval,
        poll_max_interval=crew.poll.max_interval,
        is_flow=crew.kind == "flow",
        questions_announced=bool(human.secret) if crew.kind == "flow" else settings.public_url is not None,
        human_deadline=human.deadline,
        human_default=human.default,
    )


def build_budgets(settings: Settings, name: str) -> Budgets:
    """Return the budgets of a crew and of its senders."""
    senders = {client_source(client.name): _budget(client.budget) for client in settings.http.clients if client.budget}
    crew = settings.crews[name].budget
    return Budgets(None if crew is None else _budget(crew), senders)


def _budget(budget: BudgetSettings) -> Budget:
    return Budget(budget.runs, budget.per)


def flow_sources(settings: Settings) -> dict[str, FlowSource]:
    """Return the crews whose deployment signs its questions."""
    return {
        name: FlowSource(
            crew.url, crew.insecure, [secret.get_secret_value() for secret in crew.human.secret], crew.human.allow
        )
        for name, crew in settings.crews.items()
        if crew.human is not None and crew.human.secret
    }


def callback_rules(settings: Settings) -> CallbackRules:
    """Return which callback URLs a request may name."""
    return CallbackRules(settings.callbacks.allow, settings.callbacks.allow_private)


def signing_secrets(settings: Settings) -> SigningSecrets:
    """Return the secrets that sign callbacks (of all, of crews, of permanent destinations), and the URLs of crews."""
    common, crews = settings.callbacks.secret, settings.crews.items()
    return SigningSecrets(
        _texts(common),
        {name: _texts(crew.callback_secret) for name, crew in crews if crew.callback_secret},
        {one.url.get_secret_value(): _texts(one.secret or common) for one in settings.destinations.values()},
        _named_urls(settings),
    )


def _named_urls(settings: Settings) -> dict[str, frozenset[str]]:
    common = [one.url for one in settings.destinations.values()]
    own = {name: [crew.callback_url] if crew.callback_url else [] for name, crew in settings.crews.items()}
    return {name: frozenset(_texts([*common, *urls])) for name, urls in own.items()}


def _texts(secrets: Sequence[SecretStr]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def build_hooks(settings: Settings) -> dict[str, Hook]:
    """Return the hooks with their verifiers and rules."""
    return {
        name: Hook(
            name, hook.crew, hook.verify.scheme, hook.verify.verifier(build_checker), hook.rule(settings.http.max_body)
        )
        for name, hook in settings.hooks.items()
    }


def build_source(name: str, source: SourceSettings, max_message: int) -> Source:
    """Return a source with its rule; `max_message`, in bytes, also limits what a message is mapped to."""
    return Source(name, source.crew, source.rule(max_message))


def build_clients(settings: Settings) -> list[Client]:
    """Return the clients of the HTTP API."""
    return [
        Client(
            client.name,
            digest(client.token.get_secret_value()),
            frozenset(Role(role) for role in client.roles),
            client.crews,
        )
        for client in settings.http.clients
    ]


def client_rate(settings: Settings) -> Rate:
    """Return the rate limit of each client."""
    return Rate(settings.http.requests_per_second, max(1.0, 2 * settings.http.requests_per_second))


def proxy_rule(proxy: SecretStr | None) -> ProxyRule:
    """Return through which proxy to call others."""
    return DIRECT if proxy is None else ProxyRule(proxy.get_secret_value())


def base_path(settings: Settings) -> str:
    """Return the path of the API as callers see it, such as `/bridge` behind a proxy that adds a prefix."""
    return urlsplit(settings.public_url or "").path.rstrip("/")


def listen_on(settings: Settings, open_files: float) -> Listen:
    """Return where the HTTP API listens; `open_files`: how many files and sockets the process may have open."""
    http = settings.http
    connections = min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, (open_files - OTHER_FILES) // 2))
    return Listen(
        http.host,
        http.port,
        http.ops_port,
        http.max_body,
        int(connections),
        trusted_proxies=tuple(http.trusted_proxies),
    )
