"""Fakes of external systems, a manual clock, and builders of requests, runs, and deliveries."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.core.crew.inputs import ListedInputs
from bridge.core.crew.responses import (
    KickoffResponse,
    Resumed,
    ResumeResponse,
    Running,
    Started,
    StatusResponse,
    StopResponse,
)
from bridge.core.delivery.model import Channel, Delivery, Destination, Event
from bridge.core.delivery.outcome import Confirmed, SendResult
from bridge.core.runs import state_machine
from bridge.core.runs.model import Decision, Envelope, KickoffRequest, Run
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Health
from bridge.ports.runs import RunStore

NOW = 1_800_000_000.0
KICKOFF_ID = "5b0f6c1e-93a4-4d0c-8f3b-d1e2c3b4a596"


@dataclass(slots=True)
class HandClock:
    """Stands still until it is moved."""

    moment: float = NOW

    def __call__(self) -> float:
        return self.moment

    def forward(self, seconds: float) -> float:
        self.moment += seconds
        return self.moment


def run_id(number: int) -> str:
    """An id in the format of a UUIDv7; ids sort like their numbers."""
    return f"{number:08x}-0000-7000-8000-000000000000"


@dataclass(slots=True)
class Ids:
    """New ids, one after the other."""

    last: int = 0

    def __call__(self) -> str:
        self.last += 1
        return run_id(self.last)


async def applied(store: RunStore, decision: Decision) -> Run:
    """Write a decision that meets no conflict."""
    written = await store.apply(decision)
    assert isinstance(written, Run)
    return written


def a_request(crew: str = "research", **changes: Any) -> KickoffRequest:
    return replace(KickoffRequest(crew=crew, inputs={"topic": "peat bogs"}), **changes)


def a_run(number: int = 1, *, now: float = NOW, envelope: Envelope | None = None, **request: Any) -> Run:
    """An accepted run; change its row fields with `replace`."""
    return state_machine.accept(a_request(**request), envelope or Envelope(source="queue"), run_id(number), now)


def a_delivery(number: int = 1, channel: Channel = Channel.CALLBACK, due_at: float = NOW, **event: Any) -> Delivery:
    """A delivery without a run."""
    rejected = Event(f"event-{number:04}", "request.rejected", b'{"n":1}', "application/json", NOW)
    return Delivery(
        f"event-{number:04}-1", replace(rejected, **event), Destination(channel, "somewhere"), due_at=due_at
    )


async def nothing_more(_: Any = None) -> None:
    """Do nothing, where a test could act."""


@dataclass
class FakeCrewApi:
    """Returns the scripted responses, then the standing ones; `meanwhile` runs while a POST is in flight."""

    kickoff_responses: list[KickoffResponse] = field(default_factory=list)
    status_responses: list[StatusResponse] = field(default_factory=list)
    default_status: StatusResponse = field(default_factory=Running)
    status_by_id: dict[str, StatusResponse] = field(default_factory=dict)
    slow: dict[str, asyncio.Future[StatusResponse]] = field(default_factory=dict)
    meanwhile: Callable[[Any], Awaitable[None]] = nothing_more
    bodies: list[dict[str, Any]] = field(default_factory=list)
    traceparents: list[str | None] = field(default_factory=list)
    polls: list[str] = field(default_factory=list)
    resumes: list[dict[str, Any]] = field(default_factory=list)
    flow_responses: list[tuple[str, str]] = field(default_factory=list)
    resume_responses: list[ResumeResponse] = field(default_factory=list)
    permits: int = 0
    usable: bool = True
    stopped: list[str] = field(default_factory=list)
    stop_response: StopResponse = StopResponse.NOT_STOPPED
    needed: tuple[str, ...] | None = None
    required: tuple[str, ...] | None = None
    asked_for_inputs: int = 0

    async def inputs(self) -> ListedInputs | None:
        self.asked_for_inputs += 1
        return None if self.needed is None else ListedInputs(self.needed, self.required)

    async def stop(self, kickoff_id: str) -> StopResponse:
        self.stopped.append(kickoff_id)
        return self.stop_response

    async def probe(self) -> Health:
        return Health(ok=self.usable, detail="asked")

    async def acquire(self) -> None:
        self.permits += 1

    async def kickoff(self, body: dict[str, Any], traceparent: str | None = None) -> KickoffResponse:
        self.bodies.append(body)
        self.traceparents.append(traceparent)
        await self.meanwhile(body)
        return self.kickoff_responses.pop(0) if self.kickoff_responses else Started(f"execution-{len(self.bodies)}")

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        self.resumes.append(body)
        await self.meanwhile(body)
        return self.resume_responses.pop(0) if self.resume_responses else Resumed(f"alias-{len(self.resumes)}")

    async def answer_flow(self, callback_url: str, feedback: str) -> ResumeResponse:
        self.flow_responses.append((callback_url, feedback))
        return self.resume_responses.pop(0) if self.resume_responses else Resumed()

    async def status(self, kickoff_id: str) -> StatusResponse:
        self.polls.append(kickoff_id)
        if kickoff_id in self.slow:
            return await self.slow[kickoff_id]
        standing = self.status_by_id.get(kickoff_id, self.default_status)
        return self.status_responses.pop(0) if self.status_responses else standing


@dataclass(slots=True)
class FakeSender:
    """Keeps its deliveries, and returns the scripted outcomes, then confirmations."""

    responses: list[SendResult] = field(default_factory=list)
    ready: bool = True
    sent: list[Delivery] = field(default_factory=list)

    async def send(self, delivery: Delivery) -> SendResult:
        self.sent.append(delivery)
        return self.responses.pop(0) if self.responses else Confirmed()


class Spy:
    """Wraps any part, forwards every call, and records the names of the calls."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return method(*args, **kwargs)

        return call


def without_body(delivery: Delivery) -> Delivery:
    """As it is listed."""
    return replace(delivery, event=replace(delivery.event, body=b"", headers={}))


def event_types(deliveries: Iterable[Delivery]) -> list[str]:
    return [delivery.event.type for delivery in deliveries]


def raise_fault(_kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **_about: object) -> None:
    """`ports.ReportFault` of a test without expected faults."""
    raise AssertionError("an unexpected exception") from error


@dataclass(slots=True)
class Faults:
    """`ports.ReportFault` of a test that expects some."""

    reported: list[tuple[Quarantined, BaseException, dict[str, object]]] = field(default_factory=list)

    def __call__(self, kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **about: object) -> None:
        self.reported.append((kind, error, about))

    @property
    def kinds(self) -> list[Quarantined]:
        return [kind for kind, _, _ in self.reported]


def memory_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder, in memory where the system has one; for tests in which no disk fails."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="bridge-test-", dir=memory if memory.is_dir() else None)
