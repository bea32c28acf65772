"""The worker loop that every step runs in, with scripted steps."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from bridge import worker as worker_module
from bridge.core.errors import StoreBroken, StoreDamaged, StoreUnavailable
from bridge.core.runs.quarantine import Quarantined
from bridge.worker import Worker
from tests.fakes import Faults
from tests.patience import PATIENCE


async def at_once(_: str) -> None:
    """An item that needs no work."""


@dataclass
class Script:
    """A step that returns the waiting items; `changed` is set after every change."""

    waiting: list[str] = field(default_factory=list)
    work: Callable[[str], Awaitable[None]] = at_once
    wait: float = 1e9
    name: str = "script"
    kind: Quarantined = Quarantined.RUN
    limits: list[int] = field(default_factory=list)
    in_hand: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    problem: list[Exception] = field(default_factory=list)
    """Raised by `quarantine`."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def claim(self, limit: int) -> Sequence[str]:
        self.limits.append(limit)
        self.changed.set()
        if self.failures:
            raise self.failures.pop(0)
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def handle(self, item: str) -> None:
        self.in_hand.add(item)
        self.changed.set()
        try:
            await self.work(item)
            self.done.append(item)
        finally:
            self.in_hand.discard(item)
            self.changed.set()

    def about(self, item: str) -> dict[str, object]:
        return {"item": item}

    async def quarantine(self, item: str) -> None:
        self.changed.set()
        if self.problem:
            raise self.problem.pop(0)
        self.quarantined.append(item)

    def pause(self) -> float:
        return self.wait

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


class Gate:
    """Work that blocks until the test releases it."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = {}

    async def __call__(self, item: str) -> None:
        await self._open.setdefault(item, asyncio.Event()).wait()

    def release(self, *items: str) -> None:
        for item in items:
            self._open.setdefault(item, asyncio.Event()).set()


@dataclass
class Running:
    worker: Worker[str]
    signal: asyncio.Event
    task: asyncio.Task[None]
    faults: Faults = field(default_factory=Faults)

    async def stopped(self) -> None:
        self.worker.stop()
        async with asyncio.timeout(PATIENCE):
            await self.task


def start(step: Script, capacity: int = 2) -> Running:
    signal = asyncio.Event()
    faults = Faults()
    worker = Worker[str](step, capacity, signal, faults)
    return Running(worker, signal, asyncio.create_task(worker.run()), faults)


async def test_waiting_items_are_handled():
    step = Script(list("abcde"))
    running = start(step)
    await step.until(lambda: len(step.done) == 5)
    await running.stopped()
    assert sorted(step.done) == list("abcde")


async def test_items_in_progress_never_exceed_the_capacity_and_free_slots_are_filled():
    gate = Gate()
    step = Script(list("abc"), gate)
    running = start(step)
    await step.until(lambda: step.in_hand == {"a", "b"})
    assert repr(running.worker) == "<Worker script: 2 of 2 in progress>"
    gate.release("a")
    await step.until(lambda: step.in_hand == {"b", "c"})
    gate.release("b", "c")
    await running.stopped()
    assert max(step.limits) <= 2
    assert 0 not in step.limits


async def test_a_signal_causes_a_claim_at_once():
    step = Script()
    running = start(step)
    await step.until(lambda: len(step.limits) == 1)
    step.waiting.append("late")
    running.signal.set()
    await step.until(lambda: step.done == ["late"])
    await running.stopped()


async def test_a_signal_during_a_claim_is_not_lost():
    step = Script()
    signal = asyncio.Event()

    class SignalledWhileClaiming(Script):
        async def claim(self, limit: int) -> Sequence[str]:
            found = await super().claim(limit)
            if len(self.limits) == 1:
                self.waiting.append("just in time")
                signal.set()
            return found

    step = SignalledWhileClaiming()
    worker = Worker[str](step, 2, signal, Faults())
    task = asyncio.create_task(worker.run())
    await step.until(lambda: step.done == ["just in time"])
    await Running(worker, signal, task).stopped()


@pytest.mark.parametrize("wait", [0.001, 0.0, -5.0])
async def test_without_a_signal_the_next_claim_follows_after_the_pause(wait: float):
    step = Script(wait=wait)
    running = start(step)
    await step.until(lambda: len(step.limits) > 3)
    await running.stopped()


async def test_stopping_claims_nothing_more_and_finishes_items_in_progress():
    gate = Gate()
    step = Script(list("abcd"), gate)
    running = start(step)
    await step.until(lambda: len(step.in_hand) == 2)
    running.worker.stop()
    gate.release("a")
    await step.until(lambda: step.done == ["a"])
    assert not running.task.done()
    gate.release("b")
    await running.stopped()
    assert (sorted(step.done), step.waiting) == (["a", "b"], ["c", "d"])


async def test_stopping_before_the_start_claims_nothing():
    step = Script(list("ab"))
    worker = Worker[str](step, 2, asyncio.Event(), Faults())
    worker.stop()
    await worker.run()
    assert step.limits == []


async def test_an_unexpected_exception_costs_only_its_item():
    async def work(item: str) -> None:
        if item == "bad":
            raise ZeroDivisionError("a bug")

    step = Script(["good", "bad", "another"], work)
    running = start(step)
    await step.until(lambda: len(step.done) == 2)
    await running.stopped()
    assert (sorted(step.done), step.quarantined) == (["another", "good"], ["bad"])
    [(kind, error, about)] = running.faults.reported
    assert (kind, type(error), about) == (Quarantined.RUN, ZeroDivisionError, {"step": "script", "item": "bad"})


async def test_a_cancelled_item_is_quarantined():
    async def work(_: str) -> None:
        raise asyncio.CancelledError

    step = Script(["cancelled"], work)
    running = start(step)
    await step.until(lambda: step.quarantined == ["cancelled"])
    await running.stopped()
    assert running.faults.kinds == [Quarantined.RUN]


async def broken(_: str) -> None:
    raise ZeroDivisionError("a bug")


async def test_quarantine_waits_for_an_unavailable_store(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_module, "STORE_RETRY_INTERVAL", 0.001)
    step = Script(["bad"], broken, problem=[StoreUnavailable("disk full"), StoreUnavailable("disk full")])
    running = start(step)
    await step.until(lambda: step.quarantined == ["bad"])
    await running.stopped()
    assert running.faults.kinds == [Quarantined.RUN]


async def test_stopping_during_an_outage_of_the_store_leaves_the_item_to_the_next_process():
    step = Script(["bad"], broken, problem=[StoreUnavailable("disk full")] * 9)
    running = start(step)
    await step.until(lambda: len(step.problem) < 9)
    await running.stopped()
    assert step.quarantined == []


async def test_a_failing_quarantine_stops_nothing():
    step = Script(["worse", "bad"], broken, problem=[ZeroDivisionError("another bug")])
    running = start(step, capacity=1)
    await step.until(lambda: step.quarantined == ["bad"])
    await running.stopped()
    assert running.faults.kinds == [Quarantined.RUN, Quarantined.TASK, Quarantined.RUN]


async def test_an_item_without_a_description_is_quarantined():
    class Nameless(Script):
        def about(self, item: str) -> dict[str, object]:
            raise AttributeError(item)

    step = Nameless(["bad"], broken)
    running = start(step)
    await step.until(lambda: step.quarantined == ["bad"])
    await running.stopped()
    assert [about for _, _, about in running.faults.reported] == [{"step": "script"}]


@pytest.mark.parametrize("where", ["claim", "handle", "quarantine"])
@pytest.mark.parametrize("error", [StoreBroken("disk I/O error"), StoreDamaged("malformed")])
async def test_only_a_broken_store_ends_the_worker_after_its_other_items(where: str, error: Exception):
    """A POST in flight may be paid for; left behind as a loose task, it would be cancelled with the loop."""
    gate = Gate()

    async def work(item: str) -> None:
        if item == "bad":
            raise error if where == "handle" else ZeroDivisionError("a bug")
        await gate(item)

    step = Script(["good"], work, wait=0.0, problem=[error] if where == "quarantine" else [])
    running = start(step)
    await step.until(lambda: step.in_hand == {"good"})
    (step.failures if where == "claim" else step.waiting).append(error if where == "claim" else "bad")  # type: ignore[arg-type]
    running.signal.set()
    await step.until(lambda: not (step.failures or step.waiting or "bad" in step.in_hand))
    await asyncio.wait([running.task], timeout=0.01)
    finished_early = running.task.done()
    gate.release("good")
    with pytest.raises(type(error)):
        await running.stopped()
    assert not finished_early
    assert step.done == ["good"]


async def test_after_a_bug_in_claim_the_next_claim_is_delayed_despite_signals(monkeypatch: pytest.MonkeyPatch):
    pauses = [0.05, 0.0]
    monkeypatch.setattr(worker_module, "delay_after", lambda failures: pauses[failures - 1])
    step = Script(["a"], failures=[ZeroDivisionError("a bug"), ZeroDivisionError("a bug")])
    running = start(step)
    await step.until(lambda: len(step.limits) == 1)
    for _ in range(5):
        running.signal.set()
        await asyncio.sleep(0)
    assert len(step.limits) == 1
    await step.until(lambda: step.done == ["a"])
    await running.stopped()
    assert running.faults.kinds == [Quarantined.TASK] * 2
    assert running.faults.reported[0][2] == {"step": "script", "task": "claim"}


async def test_an_unavailable_store_is_a_transient_error_of_a_claim(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker_module, "STORE_RETRY_INTERVAL", 0.001)
    step = Script(["a"], failures=[StoreUnavailable("disk full"), StoreUnavailable("disk full")])
    running = start(step)
    await step.until(lambda: step.done == ["a"])
    await running.stopped()


async def test_a_transient_error_in_one_item_does_not_affect_others():
    async def work(item: str) -> None:
        if item == "unlucky":
            raise StoreUnavailable("disk full")

    step = Script(["unlucky", "a", "b"], work)
    running = start(step)
    await step.until(lambda: sorted(step.done) == ["a", "b"])
    await running.stopped()
