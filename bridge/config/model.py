"""The settings and their rules: names, types, defaults, and combinations that are not valid.

Times are seconds, sizes are bytes. Rules about two settings are field validators, with the other field declared
first: unlike model validators, they also run when another field is invalid, so that all problems are reported at once.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo
from pydantic import field_validator as rule

from bridge.config import urls
from bridge.config.amqp import Amqp, Source
from bridge.config.hooks import Hook
from bridge.config.tls import DATABASE_FILES, Tls, check_url_files
from bridge.config.types import (
    AS_LIST,
    DAY,
    HOUR,
    KIB,
    LOWER,
    MIB,
    MINUTE,
    BaseUrl,
    Bytes,
    Count,
    CrewName,
    CrewNames,
    DestinationName,
    HookName,
    Host,
    Pattern,
    Port,
    ProxyNetwork,
    ProxyUrl,
    Rate,
    Root,
    Seconds,
    Secret,
    SecretHttpUrl,
    Section,
    SourceName,
    Text,
    Token,
    WebhookSecret,
)
from bridge.core.addresses import is_loopback
from bridge.core.callback_url import check_address
from bridge.core.crew.flow_questions import PLATFORM
from bridge.core.errors import RequestRefused

MIN_POLL_INTERVAL = 0.1  # seconds
Role = Literal["submit", "read", "operate"]
EventKind = Literal[
    "started",
    "progress",
    "waiting_for_human",
    "resume_unconfirmed",
    "in_doubt",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "late_result",
]
"""The type of an event of a run, without `run.`."""


class Budget(Section):
    """At most `runs` runs are started per `per`; the others wait."""

    runs: Count
    per: Seconds


class Client(Section):
    """A client of the HTTP API."""

    name: Text
    token: Token
    roles: Annotated[frozenset[Role], AS_LIST, Field(min_length=1)] = frozenset({"submit", "read"})
    crews: Annotated[CrewNames | None, AS_LIST] = None
    """The crews that this client may see and use; None: all."""
    budget: Budget | None = None
    """Applies to its runs of all crews together."""


class Http(Section):
    """The HTTP API and the console. Port 0: any free port; `ops_port` None: everything is on `port`."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    ops_port: Port | None = None
    trusted_proxies: Annotated[tuple[ProxyNetwork, ...], AS_LIST] = ()
    """Networks or addresses of reverse proxies whose `X-Forwarded-For` counts."""
    console: bool = True
    """Whether the console is served at `/`; with `ops_port`, on that port, together with the API that it uses."""
    max_body: Bytes = MIB
    requests_per_second: Rate = 1000.0
    """The average rate of one client, with bursts of twice as many. Does not apply to an open API."""
    clients: Annotated[tuple[Client, ...], AS_LIST, Field(validate_default=True)] = ()

    @rule("ops_port")
    @classmethod
    def _ports_differ(cls, ops_port: int | None, info: ValidationInfo) -> int | None:
        if ops_port and ops_port == info.data.get("port"):
            raise ValueError("must differ from http.port; omit it to serve everything on http.port")
        return ops_port

    @rule("clients")
    @classmethod
    def _open_api_is_local(cls, clients: tuple[Client, ...], info: ValidationInfo) -> tuple[Client, ...]:
        host = info.data.get("host")
        if not clients and host is not None and not is_loopback(host):
            raise ValueError("must name at least one client, because http.host is reachable from other machines")
        return clients

    @rule("clients")
    @classmethod
    def _clients_are_unique(cls, clients: tuple[Client, ...]) -> tuple[Client, ...]:
        if len({client.name for client in clients}) < len(clients):
            raise ValueError("must not use one name twice")
        if len({client.token.get_secret_value() for client in clients}) < len(clients):
            raise ValueError("must not use one token for two clients")
        return clients


class Store(Section):
    """Where runs are stored, and for how long after their end (`retention`).

    `pooler`: a connection pooler in transaction mode is between the bridge and PostgreSQL.
    """

    url: SecretStr = SecretStr("sqlite:///kickoff-bridge.db")
    pooler: bool = False
    retention: Seconds = 14 * DAY

    @property
    def location(self) -> str:
        """The file, or the host and database, without secrets."""
        return urls.store_location(self.url.get_secret_value())

    @rule("url")
    @classmethod
    def _url_is_valid(cls, url: SecretStr) -> SecretStr:
        text = urls.check_store_url(url.get_secret_value())
        if urls.is_postgresql(text):
            check_url_files(urls.url_options(text), DATABASE_FILES)
        return url


class Human(Section):
    """How long a question stays open, and the answer used after that; None: the run's deadline decides.

    `secret` verifies the webhook with which a flow's deployment sends its questions; a list during rotation. `allow`
    lists where a flow's answers may be sent, besides the crew's own host.
    """

    deadline: Seconds | None = None
    default: Text | None = None
    secret: Annotated[tuple[Secret, ...], AS_LIST] = ()
    allow: Annotated[tuple[Pattern, ...], AS_LIST] = PLATFORM

    @rule("default")
    @classmethod
    def _default_requires_deadline(cls, default: str | None, info: ValidationInfo) -> str | None:
        if default is not None and info.data.get("deadline", 0) is None:
            raise ValueError("requires `deadline` beside it")
        return default


class Poll(Section):
    """How often to poll a run: about `per_run` polls, at intervals from `min_interval` to `max_interval`."""

    per_run: Count = 5
    min_interval: Seconds = 1.0
    max_interval: Seconds = Field(default="60s", validate_default=True)

    @rule("min_interval")
    @classmethod
    def _min_can_be_honored(cls, shortest: float) -> float:
        if shortest < MIN_POLL_INTERVAL:
            raise ValueError("must be at least 100ms")
        return shortest

    @rule("max_interval")
    @classmethod
    def _max_is_above_min(cls, longest: float, info: ValidationInfo) -> float:
        if longest < info.data.get("min_interval", 0):
            raise ValueError("must not be shorter than min_interval")
        return longest


class Crew(Section):
    """One deployed crew or flow."""

    insecure: bool = False
    url: BaseUrl
    token: Token
    kind: Literal["crew", "flow"] = "crew"
    max_running: Count = 16
    requests_per_second: Rate = 20.0
    deadline: Seconds = HOUR
    start_by: Seconds | None = None
    in_doubt: Literal["hold", "retry", "fail"] = "hold"
    in_doubt_after: Seconds = 15 * MINUTE
    human_input: bool = False
    human: Human | None = None
    budget: Budget | None = None
    events: Annotated[frozenset[Literal["started", "progress"]], AS_LIST] = frozenset()
    callback_url: SecretHttpUrl | None = None
    """Secret, because it may contain a token. Not subject to `callbacks.allow`, which limits URLs from requests."""
    callback_secret: Annotated[tuple[WebhookSecret, ...], AS_LIST] = ()
    """Signs this crew's callbacks instead of `callbacks.secret`."""
    max_response: Bytes = 32 * MIB
    """The largest response that is read."""
    tls: Tls | None = None
    """For calls to the crew's own host; None: the authorities of the system, no client certificate."""
    poll: Poll = Poll()

    @rule("url")
    @classmethod
    def _encrypted(cls, url: str, info: ValidationInfo) -> str:
        return urls.check_encrypted(url, insecure=info.data.get("insecure", True))


class Destination(Section):
    """A permanent receiver of the events of runs: the chosen kinds (`events`) of the chosen `crews`; None: all."""

    url: SecretHttpUrl
    """Secret, because it may contain a token. Not subject to `callbacks.allow`, which limits URLs from requests."""
    events: Annotated[frozenset[EventKind] | None, AS_LIST, Field(min_length=1)] = None
    crews: Annotated[CrewNames | None, AS_LIST, Field(min_length=1)] = None
    secret: Annotated[tuple[WebhookSecret, ...], AS_LIST] = ()
    """Signs its callbacks instead of `callbacks.secret`."""


class Callbacks(Section):
    """How callbacks are signed, and which URLs a request may name (`allow` None: any public https address)."""

    secret: Annotated[tuple[WebhookSecret, ...], AS_LIST] = ()
    allow: Annotated[tuple[Pattern, ...] | None, AS_LIST] = None
    allow_private: bool = False
    proxy: ProxyUrl | None = None
    """Behind a proxy, the bridge cannot check to which address a callback URL leads; the proxy must."""
    max_event_bytes: Bytes = 256 * KIB
    """If an event would be larger, its result is linked instead; applies to all destinations."""


class Log(Section):
    """How much is logged, and in which form (`auto`: JSON unless on a terminal)."""

    level: Annotated[Literal["debug", "info", "warning", "error"], LOWER] = "info"
    format: Annotated[Literal["auto", "json", "console"], LOWER] = "auto"


class Settings(Root):
    """All settings of one bridge."""

    insecure: bool = False
    public_url: BaseUrl | None = None
    proxy: ProxyUrl | None = None
    """The HTTP proxy for calls to crews; `env`: as `HTTPS_PROXY`, `HTTP_PROXY`, and `NO_PROXY` say."""
    http: Http = Http()
    amqp: Amqp | None = None
    store: Store = Store()
    crews: Annotated[Mapping[CrewName, Crew], Field(min_length=1)]
    hooks: Mapping[HookName, Hook] = {}
    sources: Mapping[SourceName, Source] = {}
    destinations: Mapping[DestinationName, Destination] = {}
    callbacks: Annotated[Callbacks, Field(validate_default=True)] = Callbacks()
    log: Log = Log()
    reload: Literal["signal", "watch"] = "signal"
    """When the settings are read again: on SIGHUP; `watch`: also when the file changes."""

    @rule("public_url")
    @classmethod
    def _encrypted(cls, url: str | None, info: ValidationInfo) -> str | None:
        return url and urls.check_encrypted(url, insecure=info.data.get("insecure", True))

    @rule("crews")
    @classmethod
    def _budgets_are_within_retention(cls, crews: Mapping[str, Crew], info: ValidationInfo) -> Mapping[str, Crew]:
        http, store = info.data.get("http"), info.data.get("store")
        budgets = [(f"crews.{name}", crew.budget) for name, crew in crews.items()]
        budgets += [(f"http.clients {client.name}", client.budget) for client in http.clients] if http else []
        for name, budget in budgets:
            if budget is not None and store is not None and budget.per > store.retention:
                raise ValueError(f"must not have a budget period longer than store.retention; shorten that of {name}")
        return crews

    @rule("hooks")
    @classmethod
    def _replays_are_detectable(cls, hooks: Mapping[str, Hook], info: ValidationInfo) -> Mapping[str, Hook]:
        """A run keeps the digest of its signature; it must be retained while the signature is still valid."""
        store = info.data.get("store")
        for name, hook in hooks.items():
            if store is not None and hook.verify.window > store.retention:
                raise ValueError(
                    f"must be protected from replays: set store.retention to at least twice the tolerance of {name}"
                )
        return hooks

    @rule("sources")
    @classmethod
    def _sources_have_queues(cls, sources: Mapping[str, Source], info: ValidationInfo) -> Mapping[str, Source]:
        if "amqp" not in info.data:  # not valid, and reported
            return sources
        amqp: Amqp | None = info.data["amqp"]
        if amqp is None:
            if sources:
                raise ValueError("requires `amqp`, because the messages arrive over RabbitMQ")
            return sources
        users = {amqp.requests: "amqp.requests", amqp.dead: "amqp.dead"}
        for name, source in sources.items():
            if source.queue in users:
                raise ValueError(f"must have separate queues; {name} names that of {users[source.queue]}")
            users[source.queue] = name
        return sources

    @rule("destinations")
    @classmethod
    def _urls_have_one_secret(cls, destinations: Mapping[str, Destination]) -> Mapping[str, Destination]:
        """An event goes to a URL once, even if several destinations name it."""
        secrets = dict[str, tuple[SecretStr, ...]]()
        for name, destination in destinations.items():
            if secrets.setdefault(destination.url.get_secret_value(), destination.secret) != destination.secret:
                raise ValueError(f"must not sign one URL with different secrets; correct {name}")
        return destinations

    @rule("callbacks")
    @classmethod
    def _receivers_may_be_called(cls, callbacks: Callbacks, info: ValidationInfo) -> Callbacks:
        urls = {f"crews.{name}.callback_url": crew.callback_url for name, crew in info.data.get("crews", {}).items()}
        urls |= {f"destinations.{name}.url": one.url for name, one in info.data.get("destinations", {}).items()}
        for name, url in urls.items():
            if url is not None and url.get_secret_value().lower().startswith("http:") and not callbacks.allow_private:
                raise ValueError(f"must set allow_private, because {name} is plain http; or use https there")
            try:
                url and check_address(url.get_secret_value(), allow_private=callbacks.allow_private)
            except RequestRefused as refused:
                raise ValueError(f"never permit {name}: {refused.detail}") from None
        return callbacks
