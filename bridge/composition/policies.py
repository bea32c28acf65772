"""Settings → the rules and values that parts are built from; nothing here opens or runs anything."""

from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.topology import Topology
from bridge.adapters.callbacks.signing import build_checker
from bridge.adapters.http.auth import Client, Role, client_source, digest
from bridge.adapters.http.server import Listen
from bridge.adapters.http.webhooks.flow import FlowSource
from bridge.config import Amqp as AmqpSettings
from bridge.config import Budget as BudgetSettings
from bridge.config import Crew as CrewSettings
from bridge.config import Human as HumanSettings
from bridge.config import Settings
from bridge.core.callback_url import CallbackRules
from bridge.core.inbound.hook import Hook
from bridge.core.runs.budget import Budget, Budgets
from bridge.core.runs.model import CrewPolicy, DoubtPolicy
from bridge.core.token_bucket import Rate
from bridge.ports.processing import ReportFault

CONNECTIONS = 1000  # per port of the HTTP API
FEWEST_CONNECTIONS = 50  # per port, however few files may be open
OTHER_FILES = 400  # what all other parts have open: store, broker, crews, receivers
POSTS_AT_ONCE = 64  # per crew; so many runs at most are in doubt after a crash


def link_options(amqp: AmqpSettings, process: str, report: ReportFault) -> LinkOptions:
    """Where the broker is, and who this process is there."""
    return LinkOptions(amqp.url.get_secret_value(), process, report=report)


def build_topology(amqp: AmqpSettings) -> Topology:
    """What must exist on the broker."""
    return Topology(amqp.requests, amqp.results, amqp.dead, amqp.declare)


def posts_at_once(crew: CrewSettings) -> int:
    """No more than a second's worth: a run that waits for its turn is claimed, and would still be sent when we stop."""
    return max(1, min(POSTS_AT_ONCE, int(crew.requests_per_second)))


def api_url(settings: Settings) -> str:
    """Where receivers of events find the API: the public address, else where it listens."""
    host = settings.http.host
    return settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.http.port}"


def crew_policy(settings: Settings, name: str) -> CrewPolicy:
    """What the operator decided for a crew."""
    crew = settings.crews[name]
    human = crew.human or HumanSettings()
    return CrewPolicy(
        deadline=crew.deadline,
        in_doubt=DoubtPolicy(crew.in_doubt),
        in_doubt_after=crew.in_doubt_after,
        human_input=crew.human_input,
        extra_events=frozenset(crew.events),
        callback_url=None if crew.callback_url is None else crew.callback_url.get_secret_value(),
        results_exchange=settings.amqp is not None,
        max_event_bytes=settings.callbacks.max_event_bytes,
        api_url=api_url(settings),
        poll_per_run=crew.poll.per_run,
        poll_min_interval=crew.poll.min_interval,
        poll_max_interval=crew.poll.max_interval,
        is_flow=crew.kind == "flow",
        questions_announced=bool(human.secret) if crew.kind == "flow" else settings.public_url is not None,
        human_deadline=human.deadline,
        human_default=human.default,
    )


def orphaned_policy(settings: Settings) -> CrewPolicy:
    """What applies to runs whose crew is no longer in the settings: their events still go where they are wanted."""
    return CrewPolicy(
        results_exchange=settings.amqp is not None,
        max_event_bytes=settings.callbacks.max_event_bytes,
        api_url=api_url(settings),
    )


def build_budgets(settings: Settings, name: str) -> Budgets:
    """What limits how many runs of a crew are started."""
    senders = {client_source(client.name): _budget(client.budget) for client in settings.http.clients if client.budget}
    crew = settings.crews[name].budget
    return Budgets(None if crew is None else _budget(crew), senders)


def _budget(budget: BudgetSettings) -> Budget:
    return Budget(budget.runs, budget.per)


def flow_sources(settings: Settings) -> dict[str, FlowSource]:
    """Crews whose deployment signs questions."""
    return {
        name: FlowSource(crew.url, crew.insecure, [secret.get_secret_value() for secret in crew.human.secret])
        for name, crew in settings.crews.items()
        if crew.human is not None and crew.human.secret
    }


def callback_rules(settings: Settings) -> CallbackRules:
    """Which callback URLs a request may name."""
    return CallbackRules(settings.callbacks.allow, settings.callbacks.allow_private)


def callback_secrets(settings: Settings) -> list[str]:
    """What signs callbacks, newest first."""
    return [secret.get_secret_value() for secret in settings.callbacks.secret]


def crew_callback_secrets(settings: Settings) -> dict[str, list[str]]:
    """What signs the callbacks of crews that have secrets of their own."""
    return {
        name: [secret.get_secret_value() for secret in crew.callback_secret]
        for name, crew in settings.crews.items()
        if crew.callback_secret
    }


def build_hooks(settings: Settings) -> dict[str, Hook]:
    """The hooks, ready to judge webhooks."""
    return {
        name: Hook(
            name, hook.crew, hook.verify.scheme, hook.verify.verifier(build_checker), hook.rule(settings.http.max_body)
        )
        for name, hook in settings.hooks.items()
    }


def build_clients(settings: Settings) -> list[Client]:
    """Who may use the HTTP API."""
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
    """How often each client may use it."""
    return Rate(settings.http.requests_per_second, max(1.0, 2 * settings.http.requests_per_second))


def listen_on(settings: Settings, open_files: float) -> Listen:
    """Where the HTTP API listens; `open_files`: how many files and sockets the process may have open."""
    http = settings.http
    connections = min(CONNECTIONS, max(FEWEST_CONNECTIONS, (open_files - OTHER_FILES) // 2))
    return Listen(http.host, http.port, http.ops_port, http.max_body, int(connections))
