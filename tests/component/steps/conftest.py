"""A test bench for steps: every step on a real store, a scripted crew API, and a manual clock."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, delete
from sqlalchemy.exc import OperationalError

from bridge.adapters.kickoff_journal import NullJournal
from bridge.adapters.store import SqlStore
from bridge.adapters.store.connections import Connections, Work
from bridge.adapters.store.database import database, open_connections, open_database
from bridge.adapters.store.schema import metadata, store_metadata
from bridge.composition.policies import StepRules
from bridge.composition.steps import Steps
from bridge.core.callback_url import CallbackRules
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.payloads import Webhooks
from bridge.core.crew.responses import Refused, Started
from bridge.core.crew.webhooks import Kind
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.model import Delivery
from bridge.core.human_input.model import QuestionContent
from bridge.core.polling import PollPlanner
from bridge.core.runs import state_machine
from bridge.core.runs.kickoff_memory import MAX_BYTES
from bridge.core.runs.model import Envelope, Run
from bridge.ports.journal import Journal
from bridge.ports.tracing import NOT_TRACED, Tracing
from bridge.signals import Signals
from bridge.steps._crew import Crew
from bridge.steps.delivery import DeliverEvents
from bridge.steps.maintenance.crew_probe import ProbeCrew
from bridge.steps.maintenance.housekeeping import Housekeeping
from bridge.steps.maintenance.rebalance import Rebalance
from bridge.steps.recovery.in_doubt import ResolveInDoubt
from bridge.steps.recovery.late_results import PollLateResults
from bridge.steps.recovery.recover import Recover
from bridge.steps.runs.accept import AcceptRequest, RefuseMessage
from bridge.steps.runs.commands import ApplyCommand
from bridge.steps.runs.human_input import SubmitHumanInput
from bridge.steps.runs.input_check import CrewInputs
from bridge.steps.runs.kickoff import Kickoff
from bridge.steps.runs.poll import Poll
from bridge.steps.webhook_inbox import HandleWebhooks, ReceiveWebhooks
from tests.fakes import NOW, FakeCrewApi, FakeSender, HandClock, Ids, Spy, a_request, applied, memory_folder

POLICY = CrewPolicy(deadline=600.0, results_exchange=True, callback_url="https://shop.example/done")


KEY = b"k" * 32
WEBHOOKS = Webhooks("https://bridge.example.com", KEY)


@dataclass
class Bench:
    """One process. `policy`, `max_running`, and `crew_names` may be changed before the first step is built."""

    store: Any
    policy: CrewPolicy = POLICY
    max_running: int = 4
    clock: Any = field(default_factory=HandClock)
    ids: Ids = field(default_factory=Ids)
    api: Any = field(default_factory=FakeCrewApi)
    sender: Any = field(default_factory=FakeSender)
    signals: Signals = field(default_factory=Signals)
    share: FairShare = field(default_factory=FairShare)
    crew_names: Sequence[str] = ("research",)
    journal: Journal = field(default_factory=NullJournal)
    max_kickoff_bytes: int = MAX_BYTES
    webhooks: Webhooks | None = WEBHOOKS
    results_exchange: bool = True
    callbacks: CallbackRules = field(default_factory=CallbackRules)
    tracing: Tracing = NOT_TRACED
    another_process: Any = None
    """Opens the store of a second process on the same database."""

    @cached_property
    def crews(self) -> dict[str, Crew]:
        return {
            name: Crew(
                name, self.api, self.policy, self.max_running, PollPlanner(self.policy), webhooks=self.webhooks,
                share=self.share,
            )
            for name in self.crew_names
        }  # fmt: skip

    @property
    def steps(self) -> Steps:
        orphaned = CrewPolicy(results_exchange=self.results_exchange)
        rules = StepRules(self.callbacks, orphaned, 86_400.0)
        return Steps(
            self.store, self.crews, self.clock, self.ids, self.journal, rules, self.signals,
            max_kickoff_bytes=self.max_kickoff_bytes, tracing=self.tracing,
        )  # fmt: skip

    @cached_property
    def inputs(self) -> CrewInputs:
        return CrewInputs(self.crews, self.clock)

    def be_a_flow(self) -> None:
        self.policy = replace(self.policy, is_flow=True)

    @property
    def crew(self) -> Crew:
        return self.crews["research"]

    @property
    def accept(self) -> AcceptRequest:
        return self.steps.accept(self.inputs.check)

    @property
    def refuse(self) -> RefuseMessage:
        return self.steps.refuse("kickoff.dead")

    @property
    def kickoff(self) -> Kickoff:
        return self.steps.kickoff(self.crew)

    @property
    def poll(self) -> Poll:
        return self.steps.poll(self.crew)

    @property
    def human_input(self) -> SubmitHumanInput:
        return self.steps.human_input(self.crew)

    @property
    def probe(self) -> ProbeCrew:
        return self.steps.probe(self.crew)

    @property
    def late_results(self) -> PollLateResults:
        return self.steps.late_results(self.crew)

    @property
    def receive(self) -> ReceiveWebhooks:
        return self.steps.receive_webhooks

    @property
    def inbox(self) -> HandleWebhooks:
        return self.steps.handle_webhooks

    @property
    def apply_command(self) -> ApplyCommand:
        return self.steps.apply_command

    @property
    def in_doubt(self) -> ResolveInDoubt:
        return self.steps.in_doubt

    @property
    def recover(self) -> Recover:
        return self.steps.recover

    @property
    def housekeeping(self) -> Housekeeping:
        return self.steps.housekeeping

    @property
    def rebalance(self) -> Rebalance:
        return self.steps.rebalance

    @property
    def publish(self) -> DeliverEvents:
        return self.steps.deliver_broker(self.sender)

    @property
    def send_callbacks(self) -> DeliverEvents:
        return self.steps.deliver_callbacks(self.sender)

    async def deliver(self) -> list[Delivery]:
        """Send what is due to the broker and as callbacks."""
        sent = list(await self.round(self.publish))
        while callbacks := await self.round(self.send_callbacks):  # one at a time to an unproven receiver
            sent += callbacks
        return sent

    def another(self, *crews: str) -> "Bench":
        """A second process, with its own memory, on the same store and clock; it has not joined yet."""
        crews = crews or ("research",)
        store = self.another_process("other", crews=crews)
        return Bench(store, self.policy, self.max_running, self.clock, self.ids, crew_names=crews)

    def notified(self, worker: str) -> bool:
        """Whether a worker has been signalled since the last call."""
        signal = self.signals[worker]
        was_set = signal.is_set()
        signal.clear()
        return was_set

    async def webhook(self, token: str, kind: Kind, read: Callable[[], Awaitable[Any]]) -> bool:
        """Receive a crew webhook and handle it, unless it has to wait; return whether its token is known."""
        known = await self.receive.crew_webhook(token, kind, read)
        await self.round(self.inbox)
        return known

    async def flow_question(self, question: FlowQuestion) -> None:
        """Receive a question of a flow and handle it, if its run is known."""
        await self.receive.flow_question("research", question)
        await self.round(self.inbox)

    async def ask(self, run: Run, content: QuestionContent) -> None:
        """Ask a question of a run's execution, as a flow does."""
        assert run.kickoff_id is not None
        await self.flow_question(FlowQuestion(run.kickoff_id, content))

    def spy(self) -> Spy:
        """Record the store's calls from now on."""
        self.store = spy = Spy(self.store)
        return spy

    async def round(self, step: Any, limit: int = 99) -> Sequence[Any]:
        """Claim once and handle the items one by one."""
        items: Sequence[Any] = await step.claim(limit)
        for item in items:
            await step.handle(item)
        return items

    async def rounds(self, step: Any, seconds: float) -> None:
        """One round per second."""
        for _ in range(int(seconds)):
            self.clock.forward(1.0)
            await self.round(step)

    async def accepted(self, **request: Any) -> Run:
        return (await self.accept(a_request(**request), Envelope("queue"))).run

    async def started(self, **request: Any) -> Run:
        """A run that is running and in the poll queue."""
        run = await self.accepted(**request)
        await self.round(self.kickoff)
        return await self.now(run)

    async def ended(self) -> Run:
        """A run whose final event waits for two destinations."""
        self.api.kickoff_responses = [Refused("no")]
        return await self.started()

    async def now(self, run: Run) -> Run:
        """The run as stored."""
        stored: Run | None = await self.store.load(run.run_id)
        assert stored is not None
        return stored

    async def left_starting(self) -> Run:
        """A run whose process died during its POST."""
        run = await self.accepted()
        await self.kickoff.claim(1)
        await self.abandon()
        return await self.now(run)

    async def left_running(self) -> Run:
        """A run whose process died while tracking it."""
        run = await self.accepted()
        [starting] = await self.kickoff.claim(1)
        await applied(self.store, state_machine.on_kickoff(starting, Started("k-1"), self.policy, self.clock()))
        await self.abandon()
        return await self.now(run)

    async def abandon(self) -> None:
        """Expire this process, so that its rows are free, and rejoin under its former name."""
        await self.store.cluster.expire_processes(self.clock(), -1.0)
        await self.store.cluster.join(self.clock())

    async def events(self, run: Run) -> list[str]:
        """The types of the run's events, each once, in order."""
        return list(
            dict.fromkeys(delivery.event.type for delivery in await self.store.queries.deliveries_for_run(run.run_id))
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests on one event loop, because the engines of the shared store belong to it."""
    for item in items:
        if Path(__file__).parent in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@dataclass
class OneDatabase:
    """One database for all tests; `full`: no transaction succeeds."""

    writer: Connections
    reader: Connections
    full: bool = False

    def store_of(self, process: str, *, shared: bool, crews: Collection[str] = ("research",)) -> SqlStore:
        """A store without cached state; several stores on one database are otherwise possible only on PostgreSQL."""
        return SqlStore(self.reader, self._transaction, process, KEY, shared=shared, crews=crews)

    async def _transaction(self, work: Work[Any]) -> Any:
        if self.full:
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))
        return await self.writer.run(work)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_database() -> AsyncIterator[OneDatabase]:
    """Open the database once: opening it and preparing statements take longer than most tests."""
    with memory_folder() as folder:
        base = database(f"sqlite:///{folder}/bridge.db")
        async with open_database(base, migrate=True) as writer, open_connections(base.readers()) as reader:
            yield OneDatabase(writer, reader)


@pytest_asyncio.fixture(loop_scope="session")
async def store(one_database: OneDatabase) -> AsyncIterator[SqlStore]:
    """An empty store."""
    await one_database.writer.run(_empty)
    store = one_database.store_of("me", shared=False)
    await store.cluster.join(NOW)
    yield store
    await store.close()


def _empty(connection: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        if table is not store_metadata:
            connection.execute(delete(table))


@pytest.fixture
def bench(one_database: OneDatabase, store: SqlStore) -> Bench:
    return Bench(store, another_process=partial(one_database.store_of, shared=True))


def with_policy(bench: Bench, **changes: Any) -> Bench:
    bench.policy = replace(bench.policy, **changes)
    return bench
