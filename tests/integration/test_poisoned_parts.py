"""An unexpected exception in any listener or adapter costs at most one item: others continue, and the process survives.

Every public function and method of the adapters raises once inside an assembled bridge with a real broker, while every
route is called and every kind of message arrives. Then further runs must end and be delivered everywhere. The poisoned
functions are found through the import graph and the routers; a new route or adapter that no call here reaches fails the
test. Several functions raise between two checks; in the nightly tests, each one alone, with several exceptions.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import importlib
import inspect
import itertools
import json
import pkgutil
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Protocol

import aio_pika
import aiohttp
import pytest
import yaml
from aiohttp import web
from structlog.testing import capture_logs

from bridge import adapters
from bridge.adapters.http import server
from bridge.adapters.store import SqlStore
from bridge.adapters.store.queries.api import SqlQueries
from bridge.adapters.store.queries.cluster import SqlCluster
from bridge.adapters.store.queries.commands import SqlCommands
from bridge.adapters.store.queries.deliveries import SqlDeliveries
from bridge.adapters.store.queries.inbox import SqlWebhookInbox
from bridge.adapters.store.queries.run_times import SqlRunTimes
from bridge.composition import http as http_composition
from bridge.composition.build import open_bridge
from bridge.config import load_renewable, settings_watch
from bridge.config.loading import Renewable
from bridge.core.crew import webhook_tokens
from bridge.observability import metrics, store_gauges
from bridge.sandbox import SandboxSettings, running
from bridge.sandbox.times import parse_run_time
from bridge.steps.maintenance import run_time_stats
from bridge.supervisor import Supervisor
from tests.broker import Broker
from tests.patience import PATIENCE
from tests.system.acceptance.harness import eventually, free_port, works
from tests.web_server import web_server

BATCHES = 6  # of functions that raise between two checks
ROUNDS = 60  # of a second and more; resolved names are cached for ten
LOST = 3.0  # seconds until a call is repeated, because its connection may be poisoned
SERVED = {200, 202, 204, 409}
TOKEN = "client-token-" + "x" * 32
REPLY = "reply.poisoned"
SOURCE = "kickoff.poisoned"
HOOK, FLOW = "hook-secret-5b1c", "flow-secret-7d2e"


class Poison(Exception):
    """Raised unexpectedly; the libraries for RabbitMQ and HTTP also raise `RuntimeError` at a lost connection."""


@dataclass
class Fuse:
    """Makes one call of each armed function raise, and records the names of all called functions."""

    kind: type[Exception]
    armed: set[str] = field(default_factory=set)
    burned: asyncio.Event = field(default_factory=asyncio.Event)
    reached: set[str] = field(default_factory=set)
    loop: asyncio.AbstractEventLoop | None = None

    def arm(self, names: Iterable[str]) -> None:
        self.burned = asyncio.Event()
        self.armed = set(names)

    def burn(self, name: str) -> None:
        self.reached.add(name)
        if name not in self.armed:
            return
        with contextlib.suppress(KeyError):  # the store calls from threads, of which one raises
            self.armed.remove(name)
            if not self.armed:
                assert self.loop is not None
                self.loop.call_soon_threadsafe(self.burned.set)
            raise self.kind(name)


def wrapped(function: Callable[..., Any], name: str, fuse: Fuse) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def poisoned(*args: Any, **kwargs: Any) -> Any:
            fuse.burn(name)
            return await function(*args, **kwargs)
    else:

        @functools.wraps(function)
        def poisoned(*args: Any, **kwargs: Any) -> Any:
            fuse.burn(name)
            return function(*args, **kwargs)

    return poisoned


def adapter_modules() -> list[ModuleType]:
    """The adapters, without the internals of the store; and other parts that are called like adapters."""
    found = [
        importlib.import_module(one.name)
        for one in pkgutil.walk_packages(adapters.__path__, "bridge.adapters.")
        if not one.name.startswith("bridge.adapters.store")
    ]
    return [*found, metrics, store_gauges, settings_watch]


def targets() -> Iterator[tuple[str, Any, str]]:
    """Each public function or method: its name and its location."""
    for module in adapter_modules():
        short = module.__name__.removeprefix("bridge.").removeprefix("adapters.")
        for name, part in list(vars(module).items()):
            if getattr(part, "__module__", None) != module.__name__ or name.startswith("_"):
                continue
            if inspect.isclass(part):
                yield from ((f"{short}.{name}.{method}", part, method) for method in public_methods(part))
            elif isinstance(part, FunctionType):
                yield f"{short}.{name}", module, name
    for part in (SqlStore, SqlDeliveries, SqlQueries, SqlCluster, SqlRunTimes, SqlCommands, SqlWebhookInbox, Renewable):
        yield from ((f"store.{part.__name__}.{method}", part, method) for method in public_methods(part))


def public_methods(part: type) -> list[str]:
    return [
        name
        for name, value in vars(part).items()
        if (not name.startswith("_") or name == "__call__")
        and isinstance(value, FunctionType | property)
        and not (inspect.isabstract(part) or Protocol in part.__bases__)
    ]


def poison(monkeypatch: pytest.MonkeyPatch, fuse: Fuse) -> list[str]:
    """Wrap everything; return the names of the wrapped functions."""
    names = []
    loaded = [module for name, module in list(sys.modules.items()) if name.startswith("bridge.")]
    for name, owner, attribute in targets():
        found = vars(owner)[attribute]
        names.append(name)
        if isinstance(found, property):
            assert found.fget
            monkeypatch.setattr(owner, attribute, property(wrapped(found.fget, name, fuse), found.fset))
        elif inspect.isclass(owner):
            monkeypatch.setattr(owner, attribute, wrapped(found, name, fuse))
        else:
            function = wrapped(found, name, fuse)
            for module in loaded:
                for used, value in list(vars(module).items()):
                    if value is found:
                        monkeypatch.setattr(module, used, function)
    return names


@dataclass
class Environment:
    """An assembled bridge with its environment; `received`: the numbers of the successful runs, by destination."""

    url: str
    folder: Path
    supervisor: Supervisor
    http: aiohttp.ClientSession
    exchange: aio_pika.abc.AbstractExchange
    default_exchange: aio_pika.abc.AbstractExchange
    callback: str
    webhook_key: bytes
    routes: list[web.RouteDef]
    received: Mapping[str, set[int]]
    count: int = 0

    def webhook(self, run_id: str) -> str:
        return f"/amp/{webhook_tokens.issue(self.webhook_key, webhook_tokens.Attempt(run_id, 1))}/crew"

    def request(self, **more: Any) -> dict[str, Any]:
        self.count += 1
        return {"crew": "research", "inputs": {"topic": str(self.count)}, "meta": {"number": self.count}, **more}

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, bytes]:
        async with self.http.request(method, self.url + path, **more) as response:
            return response.status, await response.content.read(100_000)

    async def publish(self, body: Any, **properties: Any) -> None:
        message = aio_pika.Message(
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            delivery_mode=2,
            reply_to=REPLY,
            **properties,
        )
        await self.exchange.publish(message, "research", timeout=PATIENCE)

    async def publish_to_source(self) -> None:
        message = aio_pika.Message(b'{"topic": "peat"}', delivery_mode=2, headers={"tenant": "a"})
        await self.default_exchange.publish(message, SOURCE, timeout=PATIENCE)

    async def submit(self) -> str:
        body = self.request(callback_url=self.callback)
        status, answer = await self.call("POST", "/v1/runs", json=body)
        assert status == 202, answer
        return str(json.loads(answer)["run_id"])

    def signed_hook(self) -> dict[str, Any]:
        body = json.dumps({"topic": "peat", "n": self.count}).encode()
        digest = hmac.new(HOOK.encode(), body, hashlib.sha256).hexdigest()
        return {"data": body, "headers": {"X-Hub-Signature-256": f"sha256={digest}"}}

    def signed_question(self) -> dict[str, Any]:
        body, timestamp = json.dumps({"flow_id": f"none-{self.count}"}).encode(), str(int(time.time()))
        digest = hmac.new(FLOW.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
        return {"data": body, "headers": {"X-CrewAI-Signature": digest, "X-CrewAI-Timestamp": timestamp}}


async def call_every_route(
    environment: Environment, run_id: str, delivery_id: str, limit: float
) -> dict[tuple[str, str], int]:
    """The status of each route's response."""
    run, delivery = f"/v1/runs/{run_id}", f"/v1/deliveries/{delivery_id}"
    nothing = {"until": "2020-01-01T00:00:00Z"}
    calls: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
        ("GET", "/healthz"): ("/healthz", {}),
        ("GET", "/readyz"): ("/readyz", {}),
        ("GET", "/metrics"): ("/metrics", {}),
        ("GET", "/openapi.json"): ("/openapi.json", {}),
        ("GET", "/asyncapi.json"): ("/asyncapi.json", {}),
        ("GET", "/docs"): ("/docs", {}),
        ("GET", "/"): ("/", {}),
        ("GET", "/console/{file}"): ("/console/app.js", {}),
        ("GET", "/v1/client"): ("/v1/client", {}),
        ("POST", "/v1/runs"): ("/v1/runs", {"json": environment.request(callback_url=environment.callback)}),
        ("GET", "/v1/runs"): ("/v1/runs", {}),
        ("GET", "/v1/runs/{run_id}"): (f"{run}?wait=1", {}),
        ("GET", "/v1/runs/{run_id}/result"): (f"{run}/result", {}),
        ("POST", "/v1/runs/{run_id}/resume"): (f"{run}/resume", {"json": {"feedback": "go on"}}),
        ("POST", "/v1/runs/{run_id}/resolve"): (f"{run}/resolve", {"json": {"action": "retry"}}),
        ("POST", "/v1/runs/{run_id}/cancel"): (f"{run}/cancel", {}),
        ("POST", "/v1/runs/release"): ("/v1/runs/release", {}),
        ("POST", "/v1/runs/{run_id}/retry"): (f"{run}/retry", {}),
        ("POST", "/v1/runs/cancel"): ("/v1/runs/cancel", {"json": {"filter": nothing}}),
        ("POST", "/v1/runs/resolve"): ("/v1/runs/resolve", {"json": {"filter": nothing, "action": "abandon"}}),
        ("POST", "/v1/runs/retry"): ("/v1/runs/retry", {"json": {"filter": nothing}}),
        ("GET", "/v1/events"): ("/v1/events", {}),
        ("GET", "/v1/crews"): ("/v1/crews", {}),
        ("GET", "/v1/stats"): ("/v1/stats", {}),
        ("GET", "/v1/crews/{crew}"): ("/v1/crews/research", {}),
        ("GET", "/v1/crews/{crew}/inputs"): ("/v1/crews/research/inputs", {}),
        ("GET", "/v1/dead-letters"): ("/v1/dead-letters", {}),
        ("POST", "/v1/dead-letters/{id}/replay"): ("/v1/dead-letters/none/replay", {}),
        ("POST", "/v1/dead-letters/{id}/drop"): ("/v1/dead-letters/none/drop", {}),
        ("GET", "/v1/deliveries"): ("/v1/deliveries", {}),
        ("GET", "/v1/deliveries/{id}"): (delivery, {}),
        ("POST", "/v1/deliveries/{id}/redeliver"): (f"{delivery}/redeliver", {}),
        ("POST", "/v1/deliveries/{id}/discard"): (f"{delivery}/discard", {}),
        ("GET", "/v1/receivers"): ("/v1/receivers", {}),
        ("POST", "/v1/receivers/resume"): ("/v1/receivers/resume", {"json": {"all": True}}),
        ("POST", "/v1/deliveries/redeliver"): (
            "/v1/deliveries/redeliver", {"json": {"filter": nothing, "dry_run": environment.count % 4 < 2}},
        ),
        ("POST", "/amp/{token}/{kind}"): (environment.webhook(run_id), {"json": {"kickoff_id": "unknown"}}),
        ("POST", "/amp/crews/{crew}/human"): ("/amp/crews/research/human", environment.signed_question()),
        ("POST", "/hooks/{name}"): ("/hooks/shop", environment.signed_hook()),
    }  # fmt: skip
    assert set(calls) == {(route.method, route.path) for route in environment.routes}, (
        "a route that no call here reaches"
    )
    answers = {}
    for (method, route), (path, more) in calls.items():
        if route == "/v1/events":
            answers[method, route] = await attempt(read_stream(environment, path), limit) or 0
        else:
            answers[method, route], _ = await attempt(environment.call(method, path, **more), limit) or (0, b"")
    return answers


async def read_stream(environment: Environment, path: str) -> int:
    """The status of a stream whose first bytes have arrived."""
    async with environment.http.get(environment.url + path, headers={"Last-Event-ID": "0"}) as response:
        await response.content.read(1)
        return response.status


async def attempt(call: Any, limit: float) -> Any:
    """The result of a call that may be the poisoned one."""
    try:
        async with asyncio.timeout(limit):
            return await call
    except (aiohttp.ClientError, TimeoutError):
        return None


@asynccontextmanager
async def receiver(received: set[int]) -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        remember(received, await request.json())
        return web.Response()

    async with web_server(web.post("/done", take)) as url:
        yield f"{url}/done".replace("127.0.0.1", "localhost")  # a name, so that it is resolved


def document(folder: Path, port: int, broker_url: str, crew_url: str) -> dict[str, Any]:
    return {
        "public_url": f"http://127.0.0.1:{port}",
        "http": {"port": port, "clients": [{"name": "a", "token": TOKEN, "roles": ["operate"]}]},
        "amqp": {"url": broker_url},
        "store": {"url": f"sqlite:///{folder}/bridge.db"},
        "callbacks": {"allow_private": True, "secret_file": f"{folder}/callback"},
        "crews": {
            "research": {
                "url": crew_url,
                "token_file": f"{folder}/crew",
                "max_running": 1000,
                "requests_per_second": 2000,
                "human": {"secret": FLOW},
                "poll": {"min_interval": "100ms", "max_interval": "100ms"},
            }
        },
        "hooks": {
            "shop": {
                "crew": "research",
                "verify": {"scheme": "github", "secret": HOOK},
                "inputs": {"topic": "topic"},
            }
        },
        "sources": {"orders": {"queue": SOURCE, "crew": "research", "inputs": {"topic": "topic"}}},
    }


@asynccontextmanager
async def open_environment(
    folder: Path, broker_url: str, monkeypatch: pytest.MonkeyPatch, fuse: Fuse
) -> AsyncIterator[Environment]:
    fuse.loop = asyncio.get_running_loop()
    routes: list[web.RouteDef] = []
    build = server.build_servers

    def poisoned_servers(listen: Any, public: Any, ops: Any, *more: Any) -> Any:
        def kept(found: Any) -> list[web.RouteDef]:
            mine = [
                web.RouteDef(
                    one.method, one.path, wrapped(one.handler, f"route {one.method} {one.path}", fuse), one.kwargs
                )
                for one in found
            ]
            routes.extend(mine)
            return mine

        return build(listen, kept(public), kept(ops), *more)

    monkeypatch.setattr(http_composition, "build_servers", poisoned_servers)
    monkeypatch.setattr(settings_watch, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(run_time_stats, "INTERVAL", 0.5)
    monkeypatch.setattr("bridge.worker.delay_after", lambda _: 0.1)
    received: dict[str, set[int]] = {"exchange": set(), "reply": set(), "callback": set()}
    (folder / "crew").write_text("sandbox-token")
    (folder / "callback").write_text(f"whsec_{base64.b64encode(bytes(range(32))).decode()}")
    async with AsyncExitStack() as stack:
        crew_url = await stack.enter_async_context(
            running(SandboxSettings(inputs=("topic",), run_time=parse_run_time("fixed:0.1")))
        )
        callback = await stack.enter_async_context(receiver(received["callback"]))
        port = free_port()
        (folder / "bridge.yaml").write_text(yaml.safe_dump(document(folder, port, broker_url, crew_url)))
        settings, renewable = load_renewable(folder / "bridge.yaml", environ={})
        assembled = await stack.enter_async_context(open_bridge(settings, renewable, migrate=True))
        supervisor = await assembled.start()
        stack.push_async_callback(supervisor.stop, asyncio.Event())
        connection = await aio_pika.connect(broker_url)
        stack.push_async_callback(connection.close)
        channel = await connection.channel()
        await eventually(lambda: ready(port), "the bridge is ready")
        exchange = await channel.get_exchange("kickoff.requests")
        results, replies = [await channel.declare_queue(name, exclusive=True) for name in ("results", REPLY)]
        await results.bind("kickoff.results", "#")
        await results.consume(functools.partial(hear, received["exchange"]), no_ack=True)
        await replies.consume(functools.partial(hear, received["reply"]), no_ack=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}))
        with contextlib.closing(sqlite3.connect(folder / "bridge.db")) as store:
            [[key]] = store.execute("SELECT value FROM store_metadata WHERE name = 'amp'").fetchall()
        yield Environment(
            f"http://127.0.0.1:{port}",
            folder,
            supervisor,
            http,
            exchange,
            channel.default_exchange,
            callback,
            key,
            routes,
            received,
        )


async def hear(received: set[int], message: aio_pika.abc.AbstractIncomingMessage) -> None:
    remember(received, json.loads(message.body))


def remember(received: set[int], event: dict[str, Any]) -> None:
    if event["type"] == "run.succeeded":
        received.add((event["data"]["meta"] or {}).get("number", 0))


async def ready(port: int) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as response:
            return works((response.status, await response.json()))
    return False


async def work(environment: Environment, done: str, limit: float = LOST) -> dict[tuple[str, str], int]:
    """Everything that can arrive, once; the poisoned part of it may fail."""
    _, shown = await attempt(environment.call("GET", f"/v1/runs/{done}"), limit) or (0, b"{}")
    deliveries = json.loads(shown).get("deliveries") or [{}]
    await environment.publish(environment.request())
    await environment.publish({"run_id": done}, type="cancel")
    await environment.publish(b"nonsense")
    await environment.publish_to_source()
    new = environment.folder / "callback.new"
    new.write_text(f"whsec_{base64.b64encode(str(environment.count).zfill(32).encode()).decode()}")
    new.rename(environment.folder / "callback")
    return await call_every_route(environment, done, deliveries[0].get("id", "none"), limit)


async def prove(environment: Environment) -> str:
    """A run over HTTP and one over RabbitMQ still end and are delivered to every destination;

    return the id of the former.
    """
    run_id = await environment.submit()
    over_http = environment.count
    await environment.publish(environment.request())
    over_amqp = environment.count

    async def delivered() -> bool:
        received = environment.received
        return (
            {over_http, over_amqp} <= received["exchange"]
            and over_amqp in received["reply"]
            and over_http in received["callback"]
        )

    await eventually(delivered, "two runs end and are delivered")
    assert environment.supervisor.ended == []
    return run_id


GROUPS = {
    "routes": ("route ",),
    "rabbitmq": ("amqp.",),
    "http": ("http.",),
    "store": ("store.",),
    "clients": ("callbacks.", "crew_api.", "http_client.", "observability."),
    "others": ("byte_budget.", "clock.", "cloudevents.", "config.", "kickoff_journal.", "threads."),
}

NOT_REACHED: dict[str, Sequence[str]] = {
    "builds a part at the start, or ends one at the stop": (
        *(f"http.{name}.routes" for name in (
            "api.commands.CommandsApi", "api.crews.CrewsApi", "api.deliveries.DeliveriesApi", "api.events.EventsApi",
            "api.runs.RunsApi", "api.bulk_commands.BulkCommandsApi", "api.receivers.ReceiversApi", "api.stats.StatsApi",
            "api.client.ClientApi",
            "ops.OpsApi", "webhooks.crew.CrewWebhooksApi", "webhooks.flow.FlowQuestionsApi",
            "webhooks.hooks.HooksApi",
        )),
        *(f"http.auth.Clients.{name}" for name in ("require", "require_audited", "check_host")),
        "http.local_only.local_only", "http.read_limits.ReadLimit.bounded", "http.server",
        "http.connection.Connection.drop", "http.console.ConsoleFiles.routes", "http.reference.ReferencePage.routes",
        "amqp.messages.MessageRules.link",
        "amqp.consumer.AmqpConsumer.run", "amqp.consumer.AmqpConsumer.stop", "amqp.publisher.AmqpPublisher.run",
        "amqp.publisher.AmqpPublisher.stop", "config.settings_watch.SettingsWatch.run",
        "config.settings_watch.SettingsWatch.stop",
        "callbacks.address_guard.guarded_sockets",
        "callbacks.sender.callback_sessions", "callbacks.signing.build_checker", "clock.steady_clock",
        "crew_api.crew_sessions", "kickoff_journal.open_journal", "kickoff_journal.KickoffJournal.entries",
        "kickoff_journal.KickoffJournal.clear", "observability.metrics.Counters.show_crew",
        "observability.metrics.Counters.show_link", "store.SqlCluster.join", "store.SqlCluster.leave",
        "store.SqlStore.close", "store.SqlQueries.hold_accepted",
        "byte_budget.values_budget", "threads.start_threads",
    ),
    "applies changed settings: system/acceptance/test_reload": (
        "store.SqlCluster.serve", "store.SqlCluster.release_crews", "crew_api.HttpCrewApi.use",
        "config.settings_watch.SettingsWatch.request", "store.Renewable.file_changed", "store.Renewable.reload",
        "observability.metrics.Counters.hide_crew",
        "observability.metrics.Counters.hide_link",
    ),
    "reports the exception itself": ("observability.metrics.Counters.report",),
    "connects to the broker, or answers its refusals: amqp/test_connection, amqp/test_outages, amqp/test_refusals": (
        "amqp.acks.Acks.reject", "amqp.acks.Acks.open", "amqp.acks.Acks.return_open", "amqp.acks.Acks.written",
        "amqp.channel_consumer.Backpressure.pause", "amqp.channel_consumer.Backpressure.suspect_store",
        "amqp.channel_consumer.Backpressure.store_failed", "amqp.channel_consumer.ChannelConsumer.start",
        "amqp.channel_consumer.ChannelConsumer.run", "amqp.channel_consumer.ChannelConsumer.finish",
        "amqp.channel_consumer.ChannelConsumer.lost", "amqp.channel_consumer.ChannelConsumer.in_progress",
        "amqp.consumer.AmqpConsumer.in_progress", "amqp.connection.Session",
        "amqp.connection.AmqpLink.run", "amqp.connection.AmqpLink.stop", "amqp.connection.AmqpLink.fail",
        "amqp.connection.AmqpLink.connect", "amqp.connection.being_cancelled", "amqp.errors",
        "amqp.frames.SanitizingReader.read", "amqp.frames.SanitizingTransport.create",
        "amqp.frames.sanitizing_connection",
        "amqp.isolated_channel.IsolatedChannel", "amqp.publisher.ConfirmChannel.survives_close_of",
        "amqp.publisher.raise_if_cancelled", "amqp.refusals.Refusals.refused", "amqp.refusals.Refusals.accepted",
        "amqp.topology", "store.SqlStore.probe",
    ),
    "for an operator, over a connection of its own: amqp/test_dead_letters": (
        "amqp.dead_letters", "amqp.values.ExactMessage.properties", "amqp.values.table",
        "http.api.dead_letters.DeadLettersApi.routes", "amqp.connection.probe_broker",
        "amqp.connection.connect_in_turn", "amqp.messages.is_reserved",
    ),
    "for other settings or messages: amqp/test_values, amqp/test_memory, http/test_ops": (
        "cloudevents.to_binary", "amqp.values.pack", "amqp.values.unpack", "byte_budget.ByteBudget.free",
        "kickoff_journal.NullJournal",
    ),
    "for invalid requests and dead connections: http/test_problems, http/test_auth, http/test_connections": (
        "http.connection.Connection.handle_error", "http.connection.Connection.log_exception",
        "http.connection.Connection.connection_lost", "http.auth.FailedLogins.record",
        "http.problems.from_status", "http.problems.too_many_requests", "http.problems.invalid_parameter",
        "http.long_poll.LongPoll.wait_until_final", "http.long_poll.is_set_within", "http.views.attempt",
    ),
    "for requests that fail: component/test_http_client": ("http_client.describe_failure",),
    "for crew webhooks that are too large: http/test_crew_webhooks": ("http.body.read_beginning",),
    "called only by the command dev: system/acceptance/test_dev": ("store.SqlDeliveries.store_receiver",),
    "called only by steps: component/steps/test_poison": (
        *(f"crew_api.HttpCrewApi.{name}" for name in (
            "acquire", "resume", "answer_flow", "stop", "probe", "inputs",
        )),
        "kickoff_journal.KickoffJournal.append", "kickoff_journal.KickoffJournal.drop",
        "store.SqlStore.find_key",
        *(f"store.SqlQueries.{name}" for name in ("load_events", "usage", "crews_served")),
        "store.SqlQueries.peek", "store.SqlRunTimes.newest",
        *(f"store.SqlCluster.{name}" for name in ("rejoin", "membership", "release_runs")),
        "store.SqlCommands.defer", "store.SqlCommands.remove",
    ),
}  # fmt: skip
"""The caller of each, or the test of its exceptions."""


def within(known: str) -> Callable[[str], bool]:
    """Whether a name is this function, or one of this class or module."""
    return lambda name: f"{name}.".startswith(f"{known}.")


def elsewhere(name: str) -> bool:
    return any(within(known)(name) for known in itertools.chain(*NOT_REACHED.values()))


async def call_until(environment: Environment, done: str, fuse: Fuse, names: Collection[str]) -> None:
    """Let everything arrive until each of the functions has been called."""
    for _ in range(ROUNDS):
        if fuse.reached.issuperset(names):
            return
        await work(environment, done)
        await asyncio.sleep(1.0)


async def poison_together(environment: Environment, fuse: Fuse, names: Collection[str]) -> None:
    """Make each of the functions raise once, and check that the bridge works afterwards."""
    done = await prove(environment)
    fuse.arm(names)
    for _ in range(ROUNDS):
        await work(environment, done)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await fuse.burned.wait()
                break
    assert fuse.armed == set(), "these functions were not called"
    await prove(environment)


@asynccontextmanager
async def poisoned_bridge(
    folder: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch, fuse: Fuse
) -> AsyncIterator[tuple[Environment, list[str]]]:
    """A bridge, and the names of its functions that can raise."""
    names = poison(monkeypatch, fuse)
    with capture_logs():  # rendering a traceback takes longer than all other work
        async with open_environment(folder, broker.url, monkeypatch, fuse) as environment:
            yield environment, names + [f"route {route.method} {route.path}" for route in environment.routes]


async def test_an_exception_in_any_part_costs_at_most_one_item(
    tmp_path: Path, shared_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse = Fuse(Poison)
    async with poisoned_bridge(tmp_path, shared_broker, monkeypatch, fuse) as (environment, names):
        done = await prove(environment)
        answers = await work(environment, done, PATIENCE)
        served = {route: {404} if "/dead-letters/" in route[1] else SERVED for route in answers}
        assert {route: status for route, status in answers.items() if status not in served[route]} == {}
        chosen = [name for name in names if not elsewhere(name)]
        await call_until(environment, done, fuse, chosen)
        assert [name for name in chosen if name not in fuse.reached] == []  # it would not be poisoned

        for first in range(BATCHES):
            await poison_together(environment, fuse, chosen[first::BATCHES])

    stale = [known for known in itertools.chain(*NOT_REACHED.values()) if not any(map(within(known), names))]
    assert stale == []
    assert [name for name in names if not name.startswith(tuple(itertools.chain(*GROUPS.values())))] == []


@pytest.mark.nightly
@pytest.mark.parametrize("kind", [Poison, RuntimeError])
@pytest.mark.parametrize("group", GROUPS)
async def test_each_exception_alone_costs_at_most_one_item(
    tmp_path: Path, shared_broker: Broker, monkeypatch: pytest.MonkeyPatch, group: str, kind: type[Exception]
) -> None:
    fuse = Fuse(kind)
    async with poisoned_bridge(tmp_path, shared_broker, monkeypatch, fuse) as (environment, names):
        for name in names:
            if name.startswith(GROUPS[group]) and not elsewhere(name):
                await poison_together(environment, fuse, [name])
