"""Helpers for tests of the HTTP API: a real server on a free port, a real client, and fakes of the ports behind it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry

from bridge.adapters.http.api.bulk_commands import BulkCommandsApi
from bridge.adapters.http.api.commands import CommandsApi
from bridge.adapters.http.api.crews import CrewsApi
from bridge.adapters.http.api.deliveries import DeliveriesApi
from bridge.adapters.http.api.receivers import ReceiversApi
from bridge.adapters.http.api.runs import RunsApi
from bridge.adapters.http.api.stats import StatsApi
from bridge.adapters.http.auth import Client, Clients, Role, digest
from bridge.adapters.http.long_poll import LongPollOptions
from bridge.adapters.http.ops import OpsApi
from bridge.adapters.http.server import HttpServer, Listen, build_servers
from bridge.adapters.http.webhooks.crew import CrewWebhooksApi
from bridge.adapters.http.webhooks.hooks import HooksApi
from bridge.core.crew.inputs import ListedInputs
from bridge.core.crew.webhooks import Kind
from bridge.core.delivery.model import Attempt, Delivery, DeliveryState, Receiver
from bridge.core.errors import RequestRefused, StoreUnavailable
from bridge.core.inbound.hook import Hook
from bridge.core.runs.budget import Budget
from bridge.core.runs.commands import RunCommand
from bridge.core.runs.model import Envelope, KickoffRequest, Outcome, RequestWarning, Run, State
from bridge.core.runs.request import fingerprint
from bridge.observability.store_gauges import StoreGauges
from bridge.ports.crew_api import CrewFigures, CrewInfo
from bridge.ports.inbound import Accepted
from bridge.ports.lifecycle import Health, HealthCheck
from bridge.ports.queries import Backlog, DeliveryFilter, Page, RunEnds, RunFilter, StoreFigures
from bridge.steps.runs.waiting import ExplainWaiting

TOKENS = {name: f"{name}-token-" + "x" * 32 for name in ("submitter", "reader", "operator", "narrow")}
CLIENTS = (
    Client("submitter", digest(TOKENS["submitter"]), frozenset({Role.SUBMIT})),
    Client("reader", digest(TOKENS["reader"]), frozenset({Role.READ})),
    Client("operator", digest(TOKENS["operator"]), frozenset({Role.OPERATE})),
    Client("narrow", digest(TOKENS["narrow"]), frozenset({Role.SUBMIT, Role.READ}), frozenset({"research"})),
)
DOCUMENTS = {"openapi": {"openapi": "3.1.0"}, "asyncapi": {"asyncapi": "3.0.0"}}
LISTEN = Listen(port=0, drain_seconds=5.0)
BODY = {"crew": "research", "inputs": {"topic": "otters"}}


def run_id(number: int) -> str:
    return f"01920000-0000-7000-8000-{number:012d}"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


class FakeStore:
    """Runs in a dict; `fail` is raised by every call, after `ends_after` reads a run has succeeded."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.deliveries: dict[str, list[Delivery]] = {}
        self.fail: Exception | None = None
        self.counted = 0
        self.polls = 0
        self.poll_finished = asyncio.Event()
        self.ends_after: int | None = None
        self.filters: list[RunFilter] = []
        self.content: list[DeliveryFilter] = []
        self.redelivered: list[tuple[DeliveryFilter, float]] = []
        self.released: list[tuple[str | None, Collection[str] | None, str, float]] = []
        self.discarded: list[tuple[str, str]] = []
        self.dry_runs: list[DeliveryFilter] = []
        self.attempts: list[Attempt] = []
        self.unserved: set[str] = set()
        self.minutes: list[list[float]] = []
        """The minutes whose ends were read."""
        self.ended: dict[float, RunEnds] = {}
        self.receivers: list[Receiver] = []
        self.in_progress: set[str] = set()

    def add(self, crew: str = "research", source: str = "client/submitter", **changes: Any) -> Run:
        run = Run(
            run_id(len(self.runs) + 1), KickoffRequest(crew, {}), Envelope(source), "f", State.ACCEPTED, 1_700_000_000.0
        )
        self.runs[run.run_id] = replace(run, **changes)
        return self.runs[run.run_id]

    async def load(self, wanted: str) -> Run | None:
        self._check()
        self.polls += 1
        self.poll_finished.set()
        run = self.runs.get(wanted)
        if run is not None and self.polls == self.ends_after:
            self.runs[wanted] = replace(run, state=State.SUCCEEDED, outcome=Outcome(result="done"))
        return self.runs.get(wanted)

    async def peek(self, wanted: str) -> Run | None:
        return await self.load(wanted)

    async def load_for_api(self, wanted: str) -> Run | None:
        self._check()
        return self.runs.get(wanted)

    async def find_runs(self, which: RunFilter) -> Page[Run]:
        self._check()
        self.filters.append(which)
        found = [run for run in reversed(self.runs.values()) if _matches(run, which)]
        return Page(found[: which.limit], more=len(found) > which.limit)

    async def crews_served(self) -> set[str]:
        self._check()
        return {run.crew for run in self.runs.values()} - self.unserved

    async def deliveries_for_run(self, wanted: str) -> list[Delivery]:
        self._check()
        return self.deliveries.get(wanted, [])

    async def find_deliveries(self, which: DeliveryFilter) -> list[Delivery]:
        self._check()
        self.content.append(which)
        listed = sorted((one for each in self.deliveries.values() for one in each), key=lambda one: one.delivery_id)
        wanted = [one for one in reversed(listed) if which.delivery_id in (None, one.delivery_id)]
        return [one for one in wanted if which.crews is None or one.event.crew in which.crews][: which.limit]

    async def redeliver(self, which: DeliveryFilter, now: float) -> int:
        self._check()
        self.redelivered.append((which, now))
        return 7

    async def release(self, wanted: str | None, crews: Collection[str] | None, by: str, now: float) -> int:
        self._check()
        self.released.append((wanted, crews, by, now))
        return 3

    async def count_redeliverable(self, which: DeliveryFilter) -> int:
        self._check()
        self.dry_runs.append(which)
        return 7

    async def discard(self, wanted: str, by: str) -> None:
        self._check()
        self.discarded.append((wanted, by))
        self.deliveries = {
            run: [replace(one, state=DeliveryState.DEAD) if self._is_discarded(one, wanted) else one for one in each]
            for run, each in self.deliveries.items()
        }

    def _is_discarded(self, one: Delivery, wanted: str) -> bool:
        return one.delivery_id == wanted and one.state is DeliveryState.PENDING and wanted not in self.in_progress

    async def failing_receivers(self, _: Collection[str] | None) -> list[Receiver]:
        self._check()
        return self.receivers

    async def resume_receivers(self, name: str | None, _: Collection[str] | None) -> int:
        self._check()
        paused = [one for one in self.receivers if one.paused_at is not None and name in (None, one.name)]
        self.receivers = [one for one in self.receivers if one not in paused]
        return len(paused)

    async def attempts_for_delivery(self, _: str) -> list[Attempt]:
        return self.attempts

    async def figures(self, budgets: Mapping[str, Budget], now: float) -> StoreFigures:
        self._check()
        self.counted += 1
        return StoreFigures(
            {("research", "running"): Backlog(3, now - 60.0)},
            {("callback", "dead"): Backlog(1, now - 7.0)},
            dict.fromkeys(budgets, 0.5),
            {"research": 3},
        )

    async def run_ends(self, minutes: Collection[float]) -> dict[float, RunEnds]:
        self._check()
        self.minutes.append(list(minutes))
        return {minute: self.ended.get(minute, {}) for minute in minutes}

    def _check(self) -> None:
        if self.fail is not None:
            raise self.fail


def _matches(run: Run, which: RunFilter) -> bool:
    return (
        which.state in (None, run.state)
        and which.crew in (None, run.crew)
        and which.source in (None, run.envelope.source)
        and (which.crews is None or run.crew in which.crews)
        and (which.before is None or run.run_id < which.before)
        and which.idempotency_key in (None, run.request.idempotency_key)
        and which.kickoff_id in (None, run.kickoff_id)
        and run.run_id.startswith(which.prefix or "")
    )


class FakeAccept:
    """Stores runs in the fake store, once per key; `fail` is raised instead."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.fail: Exception | None = None
        self.warnings: tuple[RequestWarning, ...] = ()
        self.seen: list[tuple[KickoffRequest, Envelope]] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, request: KickoffRequest, envelope: Envelope) -> Accepted:
        self.began.set()
        await self.go_on.wait()
        if self.fail is not None:
            raise self.fail
        self.seen.append((request, envelope))
        for run in self.store.runs.values():
            if request.idempotency_key and run.request.idempotency_key == request.idempotency_key:
                if fingerprint(request) != run.fingerprint:
                    raise RequestRefused("idempotency_conflict", "other content", "idempotency_key")
                return Accepted(run, replayed=True)
        run = self.store.add(request.crew, request=request, envelope=envelope, fingerprint=fingerprint(request))
        return Accepted(run, replayed=False, warnings=self.warnings)


def _figures(rate: float) -> CrewFigures:
    return CrewFigures(paused=not rate, request_rate=rate, tracked_runs=0, overdue=1)


@dataclass
class FakeOthers:
    """The ports of the other routes: recorded calls, and their results."""

    commands: list[tuple[str, RunCommand, str]] = field(default_factory=list)
    reasons: list[str | None] = field(default_factory=list)
    fail: Exception | None = None
    crews: list[CrewInfo] = field(
        default_factory=lambda: [
            CrewInfo("research", "crew", None, _figures(20.0), 16, 20.0, Budget(10, 60.0), settings={"kind": "crew"}),
            CrewInfo("triage", "flow", "HTTP 401", _figures(0.0), 4, 5.0),
        ]
    )
    inputs: ListedInputs | None = field(default_factory=lambda: ListedInputs(("topic", "tone"), ("topic",)))
    crew_webhooks: list[tuple[str, Kind, Any]] = field(default_factory=list)

    async def apply_command(
        self, store: FakeStore, wanted: str, command: RunCommand, by: str, reason: str | None = None
    ) -> Run:
        if self.fail is not None:
            raise self.fail
        self.commands.append((wanted, command, by))
        self.reasons.append(reason)
        return store.runs[wanted]

    async def crew_inputs(self, _: str) -> ListedInputs | None:
        return self.inputs

    async def handle_webhook(self, token: str, kind: Kind, read: Callable[[], Awaitable[Any]]) -> bool:
        if token != "known":
            return False
        self.crew_webhooks.append((token, kind, await read()))
        return True


@dataclass
class Bridge:
    """A served API with everything behind it."""

    store: FakeStore
    accept: FakeAccept
    servers: tuple[HttpServer, ...]
    http: aiohttp.ClientSession
    checks: dict[str, HealthCheck] = field(default_factory=dict)
    others: FakeOthers = field(default_factory=FakeOthers)
    draining: bool = False
    stalled: bool = False
    notified: asyncio.Event = field(default_factory=asyncio.Event)
    counted: list[tuple[str, str]] = field(default_factory=list)
    """The counted requests: entry point and outcome."""

    def count(self, via: str, outcome: str) -> None:
        self.counted.append((via, outcome))

    @property
    def port(self) -> int:
        return self.servers[0].port

    def url(self, path: str, server: int = 0) -> str:
        return f"http://127.0.0.1:{self.servers[server].port}{path}"

    async def submit(self, body: Any = None, name: str = "submitter", **headers: str) -> aiohttp.ClientResponse:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.http.post(self.url("/v1/runs"), json=body or BODY, headers={**bearer(name), **named})

    async def get(self, path: str, name: str | None = "operator", server: int = 0) -> aiohttp.ClientResponse:
        return await self.http.get(self.url(path, server), headers=bearer(name) if name else {})

    async def post(
        self, path: str, body: Any = None, name: str | None = "operator", headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        sent = {**(bearer(name) if name else {}), **(headers or {})}
        return await self.http.post(self.url(path), json=body, headers=sent)

    async def raw(self, sent: bytes) -> bytes:
        """Everything received until the server closes the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        return answer


@asynccontextmanager
async def serving(
    listen: Listen = LISTEN,
    clients: Clients | None = None,
    long_polls: LongPollOptions | None = None,
    check_seconds: float = 2.0,
    hooks: Mapping[str, Hook] | None = None,
    counts_kept: float = 0.0,
    base_path: str = "",
) -> AsyncIterator[Bridge]:
    """The HTTP side of a bridge, running; with the four clients above by default."""
    clients = clients or Clients(CLIENTS)
    store = FakeStore()
    accept = FakeAccept(store)
    checks: dict[str, HealthCheck] = {"store": _fine}
    explain = ExplainWaiting({}, store, time.time)  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        bridge = Bridge(store, accept, (), http, checks)
        count = partial(bridge.count, "http")
        api = RunsApi(accept, explain, store, clients, long_polls, base_path, count)  # type: ignore[arg-type]  # a fake of what is used
        registry = CollectorRegistry()
        budgets = {"research": Budget(10, 60.0), "triage": None}
        gauges = StoreGauges(store, registry, lambda: budgets, lambda: 1_700_000_000.0, check_seconds, counts_kept)  # type: ignore[arg-type]
        ops = OpsApi(
            checks,
            lambda: bridge.draining,
            gauges,
            registry,
            lambda: bridge.stalled,
            DOCUMENTS,
            check_seconds,
        )
        others = bridge.others
        routes = [
            *api.routes(),
            *BulkCommandsApi(partial(others.apply_command, store), accept, store, clients, count).routes(),  # type: ignore[arg-type]  # a fake of what is used
            *CommandsApi(
                partial(others.apply_command, store),
                explain,
                store,  # type: ignore[arg-type]
                clients,
                lambda: 1_700_000_000.0,
            ).routes(),
            *ReceiversApi(store, clients, bridge.notified.set).routes(),  # type: ignore[arg-type]
            *DeliveriesApi(store, clients, lambda: 1_700_000_000.0, bridge.notified.set).routes(),  # type: ignore[arg-type]
            *CrewsApi(lambda: others.crews, others.crew_inputs, gauges.refresh, store, clients).routes(),  # type: ignore[arg-type]
            *StatsApi(store, lambda: 1_700_000_000.0, clients).routes(),  # type: ignore[arg-type]
            *CrewWebhooksApi(others.handle_webhook).routes(),
            *HooksApi(accept, hooks or {}, time.time, count=partial(bridge.count, "hook")).routes(),
        ]
        bridge.servers = build_servers(listen, routes, ops.routes(), clients)
        for server in bridge.servers:
            await server.start()
            stack.push_async_callback(_stopped, server, asyncio.create_task(server.run()))
        yield bridge


async def _stopped(server: HttpServer, running: asyncio.Task[None]) -> None:
    server.stop()
    await running


async def _fine() -> Health:
    return Health(ok=True, detail="writable")


async def problem(response: aiohttp.ClientResponse, status: int, code: str) -> dict[str, Any]:
    """The problem in a response, checked for the members of every problem."""
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = await response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"].endswith(code)
    assert body["title"]
    return body


STORE_AWAY = StoreUnavailable("postgresql://user:secret@db/ does not answer")
