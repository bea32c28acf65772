"""The environment of a simulated bridge: crew API, webhooks, receivers. It keeps its records whatever dies."""

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    KickoffResponse,
    NoResponse,
    NotFound,
    NotStarted,
    Pending,
    Refused,
    ResumeResponse,
    Running,
    Started,
    StatusResponse,
    Succeeded,
    Unknown,
)
from bridge.core.crew.webhooks import Kind
from bridge.core.delivery.model import Channel, Delivery
from bridge.core.delivery.outcome import Confirmed, Retryable, SendResult, Undeliverable
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Health
from tests.simulation.questions import Answer, Execution, human, paused, resume

Webhook = Callable[[str, Kind, dict[str, Any]], Awaitable[None]]
"""Sends a webhook to any running process: token, kind, body."""


NO_SENSE: list[StatusResponse] = [NoResponse("HTTP 502"), NoResponse("HTTP 429", 3.0), NotFound(), Unknown("HTML")]


@dataclass
class World:
    """Faults are drawn from `rng` until `calm`."""

    rng: random.Random
    calm: bool = False
    seen: Counter[str] = field(default_factory=Counter)
    posts: Counter[str] = field(default_factory=Counter)
    executions: dict[str, Execution] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    """Runs whose POST may have been sent without a response that any process could have stored."""
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Event id, target, body."""
    gone: set[str] = field(default_factory=set)
    """Deliveries that were refused permanently."""
    webhook: Webhook | None = None
    answer: Answer | None = None
    """How humans answer; None: executions ask nothing."""
    patience: float | None = None
    """How many seconds the bridge waits for them; None: forever, and then each one answers in the end."""
    tracked: Callable[[], None] = lambda: None
    """Called before each POST."""
    lasting: Sequence[float] = (0.1, 1.0, 4.5)
    """Run times of executions, in seconds."""
    humans: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    ready: bool = True
    bugs: list[BaseException] = field(default_factory=list)
    """Exceptions in steps: a daemon would quarantine the item and continue, a history has failed."""

    def happens(self, fault: str, probability: float) -> bool:
        """Whether this fault happens now; counted, so that a fault that never happened is noticed."""
        hit = not self.calm and self.rng.random() < probability
        self.seen[fault] += hit
        return hit

    def report(self, _kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **_about: object) -> None:
        """`ports.ReportFault`."""
        self.bugs.append(error)

    def raise_bug(self) -> None:
        """Quarantine must hide no bug from a test."""
        if self.bugs:
            raise self.bugs[0]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """A task that continues whatever happens to the bridge."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def wire(self) -> None:
        """The transit time of a message in one direction."""
        await asyncio.sleep(self.rng.choice([0.001, 0.01, 0.2]) if not self.happens("slow wire", 0.05) else 4.0)

    # ports.CrewApi

    async def acquire(self) -> None:
        await asyncio.sleep(0.01)

    async def kickoff(self, body: dict[str, Any], traceparent: str | None = None) -> KickoffResponse:
        run_id = body["meta"]["bridge_run_id"]
        self.tracked()
        await self.wire()
        if (refusal := self._refusal(run_id)) is not None:
            await self.wire()
            return refusal
        execution = self._start(run_id)
        self.spawn(self._send_webhooks(execution, body))
        await self.wire()
        if self.happens("answer lost after arrival", 0.1):
            self.doubtful.add(run_id)
            return InDoubt("connection closed")
        return Started(execution.kickoff_id)

    async def status(self, kickoff_id: str) -> StatusResponse:
        await self.wire()
        execution = self.executions[kickoff_id]
        if self.happens("no sense in the status", 0.3):
            return self.rng.choice(NO_SENSE)
        await self.wire()
        if execution.waits():
            return paused(outright=self.rng.random() < 0.5)
        if asyncio.get_running_loop().time() >= execution.ends_at:
            return execution.end
        runs_in_progress: list[StatusResponse] = [Pending(), Running(), Running({"completed": self.rng.randint(0, 3)})]
        return self.rng.choice(runs_in_progress)

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        execution = self.executions[body["execution_id"]]
        assert body["task_id"] == execution.task_id
        response = await resume(execution, body["human_feedback"], self.happens, self.wire)
        if execution.sent:
            self.seen["question answered"] += 1
            self.spawn(self._announce_end(execution, body))
        return response

    async def stop(self, kickoff_id: str) -> bool:
        return self.rng.random() < 0.5

    async def inputs(self) -> None:
        return None

    async def probe(self) -> Health:
        return Health(ok=True, detail="HTTP 200")

    # ports.Sender

    async def send(self, delivery: Delivery) -> SendResult:
        await self.wire()
        if delivery.attempts == 0 and self.happens("delivery failed", 0.15):
            return Retryable("HTTP 500")
        if delivery.destination.channel is Channel.CALLBACK and self.happens("receiver gone", 0.02):
            self.gone.add(delivery.delivery_id)
            return Undeliverable("HTTP 410")
        self._ask_humans(delivery)
        self.received.append((delivery.event.event_id, delivery.destination.target, delivery.event.body))
        await self.wire()
        lost = delivery.attempts == 0 and self.happens("confirm lost", 0.15)
        return Retryable("no confirm in time") if lost else Confirmed()

    def _refusal(self, run_id: str) -> KickoffResponse | None:
        if self.happens("not sent", 0.1):
            return NotStarted("connection failed")
        if self.happens("refused for now", 0.05):
            return NotStarted("HTTP 429", after=2.0)
        if self.happens("refused", 0.03):
            return Refused("HTTP 422")
        if self.happens("turned away", 0.01):
            return CrewUnavailable("HTTP 401")
        if self.happens("lost before arrival", 0.05):
            self.doubtful.add(run_id)
            return InDoubt("connection closed")
        return None

    def _start(self, run_id: str) -> Execution:
        self.posts[run_id] += 1
        lasts = self.rng.choice(self.lasting)
        end = Failed("boom") if self.rng.random() < 0.2 else Succeeded("🦉", {"n": 1}, None)
        kickoff_id = f"k-{run_id}-{self.posts[run_id]}"
        execution = Execution(kickoff_id, run_id, lasts, end, asyncio.get_running_loop().time() + lasts)
        if self.answer is not None and self.rng.random() < 0.5:
            execution.asks_at, execution.ends_at = execution.ends_at, math.inf
        self.executions[kickoff_id] = execution
        return execution

    def remind_humans(self) -> None:
        """Humans who have forgotten to answer are reminded of what the run asks now, not of a superseded execution."""
        for execution in {execution.run_id: execution for execution in self.executions.values()}.values():
            self._ask(execution)

    def _ask_humans(self, delivery: Delivery) -> None:
        """Humans who read the events answer; for an event that arrives twice, two of them answer."""
        if delivery.event.type == "run.waiting_for_human":
            self._ask(self.executions[json.loads(delivery.event.body)["data"]["kickoff_id"]])

    def _ask(self, execution: Execution) -> None:
        forgets = self.happens("human never answers", 0.2) or (self.patience is not None and self.rng.random() < 0.2)
        if self.answer is not None and not forgets:
            self.humans += 1
            delay = self.rng.choice([0.1, 1.0, 12.0])
            self.spawn(human(f"human-{self.humans}", execution, delay, self.answer))

    async def _send_webhooks(self, execution: Execution, body: dict[str, Any]) -> None:
        """A task webhook at once, then one with the question, or the end."""
        await self._send_webhook(body["taskWebhookUrl"], Kind.TASK, {"kickoff_id": execution.kickoff_id})
        if execution.asks_at == math.inf:
            await self._announce_end(execution, body)
            return
        await asyncio.sleep(max(0.0, execution.asks_at - asyncio.get_running_loop().time()))
        question = {"execution_id": execution.kickoff_id, "task_id": execution.task_id, "task_output": "a draft"}
        await self._send_webhook(body["humanInputWebhookUrl"], Kind.HUMAN, question)

    async def _announce_end(self, execution: Execution, body: dict[str, Any]) -> None:
        """A crew webhook is sent only after a success."""
        await asyncio.sleep(max(0.0, execution.ends_at - asyncio.get_running_loop().time()))
        if isinstance(execution.end, Succeeded):
            await self._send_webhook(body["crewWebhookUrl"], Kind.CREW, {"kickoff_id": execution.kickoff_id})

    async def _send_webhook(self, url: str, kind: Kind, body: dict[str, Any]) -> None:
        """It may be lost, late, or duplicated."""
        if self.happens("webhook lost", 0.4):
            return
        token = urlsplit(url).path.split("/")[2]
        for _ in range(2 if self.happens("webhook doubled", 0.2) else 1):
            await asyncio.sleep(3.0 if self.happens("webhook late", 0.2) else 0.01)
            if self.webhook is not None:
                await self.webhook(token, kind, body)
