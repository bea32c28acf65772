"""An unexpected exception anywhere in any step costs at most its item, and no POST is ever repeated for it.

Each step handles an item while one of its calls to its ports raises: the first, then the second, and so on. The item is
quarantined as by the worker; then all steps work again, and every run must end.
"""

import asyncio
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import pytest

from bridge import steps
from bridge.core.crew.responses import Running, Succeeded
from bridge.core.crew.webhooks import Kind
from bridge.core.delivery.model import Channel, DeliveryState
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.core.runs.timing import DELAYS
from bridge.core.runs.waiting import Reason, why_waiting
from bridge.ports.queries import DeliveryFilter, RunFilter
from bridge.ports.webhook_inbox import InboxEntry
from bridge.worker import Worker
from tests.component.steps.conftest import Bench, with_policy
from tests.fakes import FakeSender, Faults, a_delivery

FINAL = {"run.succeeded", "run.failed", "run.timed_out", "run.cancelled"}
ENOUGH = 40  # calls to ports, more than any step makes for one item


class Poison(Exception):
    """Raised unexpectedly."""


@dataclass
class Fuse:
    """Burns at the `at`-th call to any of the parts; `after`: that call has its effect nevertheless."""

    at: int
    after: bool
    lit: bool = False
    calls: int = 0

    def burns(self) -> bool:
        self.calls += self.lit
        return self.lit and self.calls == self.at


class Poisoned:
    """A part of which one call raises."""

    def __init__(self, part: Any, fuse: Fuse) -> None:
        self._part = part
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name in {"cluster", "commands", "deliveries", "inbox", "queries", "run_times"}:
            return Poisoned(found, self._fuse)
        return partial(self._call, found) if callable(found) else found

    def _call(self, found: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        burns = self._fuse.burns()
        if burns and not self._fuse.after:
            raise Poison
        result = found(*args, **kwargs)
        if burns and inspect.isawaitable(result):
            return _spoiled(result)
        if burns:
            raise Poison
        return result


async def _spoiled(result: Awaitable[Any]) -> None:
    await result
    raise Poison


class Handed:
    """A step that claims only the given items, once."""

    def __init__(self, step: Any, items: Sequence[Any]) -> None:
        self._step = step
        self._items = items
        self.claimed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)

    async def claim(self, _: int) -> Sequence[Any]:
        items, self._items = self._items, ()
        self.claimed.set()
        return items


async def accepted(bench: Bench) -> None:
    await bench.accepted()


async def running(bench: Bench) -> None:
    await bench.started()
    bench.clock.forward(60.0)


async def with_question(bench: Bench) -> Run:
    run = await bench.started()
    await bench.ask(run, QuestionContent("task-1", "a draft"))
    return run


async def answered(bench: Bench) -> None:
    run = await with_question(bench)
    await bench.apply_command(run.run_id, Resume("go on", None, None, None), "client")


async def in_doubt(bench: Bench) -> None:
    await bench.left_starting()
    await bench.round(bench.recover)
    bench.clock.forward(10_000.0)


async def cancelled(bench: Bench) -> None:
    run = await bench.started()
    await bench.apply_command(run.run_id, Cancel(), "client")


async def to_cancel(bench: Bench) -> None:
    run = await bench.left_starting()
    assert await bench.store.commands.defer(run.run_id, "client", bench.clock())
    await bench.round(bench.recover)


async def interrupted(bench: Bench) -> None:
    await bench.left_starting()


async def left_running(bench: Bench) -> None:
    await bench.left_running()


async def to_deliver(bench: Bench) -> None:
    await bench.store.deliveries.add([a_delivery(int(bench.ids()[:8], 16), Channel.EXCHANGE, due_at=bench.clock())])


async def webhook_received(bench: Bench) -> None:
    run = await bench.started()
    content = {"kickoff_id": run.kickoff_id}
    entry = InboxEntry(bench.ids(), "research", Kind.CREW, content, bench.clock(), run.run_id, run.attempt)
    assert await bench.store.inbox.add(entry)


async def expired(bench: Bench) -> None:
    await bench.accepted(start_by=30.0)
    bench.clock.forward(60.0)


async def paused(bench: Bench) -> None:
    bench.crew.breaker.trip("HTTP 401", bench.clock())
    bench.clock.forward(120.0)


async def nothing(_: Bench) -> None:
    """A round is always due."""


SCENES: dict[str, tuple[Callable[[Bench], Any], Callable[[Bench], Awaitable[Any]]]] = {
    "kickoff": (lambda bench: bench.kickoff, accepted),
    "poll": (lambda bench: bench.poll, running),
    "human_input": (lambda bench: bench.human_input, answered),
    "in_doubt": (lambda bench: bench.in_doubt, in_doubt),
    "expire": (lambda bench: bench.steps.expire, expired),
    "late_results": (lambda bench: bench.late_results, cancelled),
    "recover": (lambda bench: bench.recover, interrupted),
    "deferred_commands": (lambda bench: bench.steps.deferred_commands, to_cancel),
    "delivery": (lambda bench: bench.publish, to_deliver),
    "webhook_inbox": (lambda bench: bench.inbox, webhook_received),
    "crew_probe": (lambda bench: bench.probe, paused),
    "housekeeping": (lambda bench: bench.housekeeping, nothing),
    "rebalance": (lambda bench: bench.rebalance, nothing),
    "run_time_stats": (lambda bench: bench.steps.run_times, nothing),
}
"""By the module of the step: how it is built, and how it receives an item."""


def test_every_step_is_poisoned() -> None:
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(steps.__path__, "bridge.steps.")]
    with_steps = {
        module.__name__.rpartition(".")[2]
        for module in modules
        for part in vars(module).values()
        if isinstance(part, type) and part.__module__ == module.__name__ and hasattr(part, "handle")
    }
    assert with_steps == set(SCENES)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENES)
async def test_an_exception_in_any_call_of_a_step_costs_at_most_its_item(bench: Bench, name: str, after: bool) -> None:
    with_policy(bench, human_input=name == "human_input", questions_announced=True)
    make, prepare = SCENES[name]
    for at in range(1, ENOUGH):
        fuse = Fuse(at, after)
        bench.api.default_status = Running()
        await prepare(bench)
        kinds = await poisoned(bench, make, fuse)
        reached = fuse.calls >= at
        assert kinds == [make(bench).kind] * reached, "one fault, and none during the quarantine"
        bench.api.default_status = Succeeded("done", None, None)
        await everything_ends(bench)
        posts = Counter(body["meta"]["bridge_run_id"] for body in bench.api.bodies)
        assert set(posts.values()) <= {1}, "a POST was repeated"
        if not reached:
            assert at > 1, "nothing was poisoned"
            return
    pytest.fail("more calls than any step makes")


async def poisoned(bench: Bench, make: Callable[[Bench], Any], fuse: Fuse) -> list[Quarantined]:
    """Have a worker handle what the step claims while the fuse burns; return the reported faults."""
    store, api, sender, faults = bench.store, bench.api, bench.sender, Faults()
    bench.store, bench.api, bench.sender = (cast("Any", Poisoned(part, fuse)) for part in (store, api, sender))
    bench.crews["research"] = replace(bench.crew, api=bench.api)
    step = make(bench)
    handed = Handed(step, await step.claim(99))
    worker: Worker[Any] = Worker(cast("Any", handed), 99, asyncio.Event(), faults)
    fuse.lit = True
    working = asyncio.create_task(worker.run())
    await handed.claimed.wait()
    worker.stop()
    await working
    bench.store, bench.api, bench.sender = store, api, sender
    bench.crews["research"] = replace(bench.crew, api=api)
    return faults.kinds


async def everything_ends(bench: Bench) -> None:
    """All steps work again; each run ends once or is held in doubt, and no delivery is pending."""
    for _ in range(30):
        bench.clock.forward(120.0)
        await bench.store.cluster.heartbeat(bench.clock())
        for step in (
            bench.recover,
            bench.probe,
            bench.kickoff,
            bench.human_input,
            bench.poll,
            bench.in_doubt,
            bench.steps.expire,
            bench.publish,
            bench.send_callbacks,
        ):
            await bench.round(step)
        runs = (await bench.store.queries.find_runs(RunFilter(limit=1000))).items
        pending = await bench.store.queries.find_deliveries(DeliveryFilter(state=DeliveryState.PENDING))
        restless = [run for run in runs if not run.final and (run.state is not State.IN_DOUBT or run.due_at)]
        if not restless and not pending:
            break
    assert (restless, pending) == ([], [])
    for run in runs:
        assert run.deferral is None
        assert [event for event in await bench.events(run) if event in FINAL] == [f"run.{run.state}"] * run.final


async def handled(step: Any, items: Sequence[Any]) -> Faults:
    """The faults reported by a worker that handles these items of a step."""
    handed, faults = Handed(step, items), Faults()
    worker: Worker[Any] = Worker(cast("Any", handed), 99, asyncio.Event(), faults)
    working = asyncio.create_task(worker.run())
    await handed.claimed.wait()
    worker.stop()
    await working
    return faults


async def test_a_run_whose_body_cannot_be_built_costs_nothing_and_is_deferred_for_longer_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """It is marked as `starting` before, but nothing was sent."""
    run, kickoff = await bench.accepted(), bench.kickoff
    monkeypatch.setattr("bridge.steps.runs.kickoff.kickoff_body", lambda *_: 1 / 0)
    for pause in DELAYS[:3]:
        faults = await handled(kickoff, await kickoff.claim(1))
        assert faults.reported[0][2] == {"step": "kickoff-research", "run_id": run.run_id, "crew": "research"}
        deferred = await bench.now(run)
        assert (deferred.state, deferred.owner, deferred.attempt, deferred.sent_at) == (State.ACCEPTED, None, 0, None)
        waiting = why_waiting(deferred)
        assert waiting is not None
        assert (waiting.reason, waiting.until) == (Reason.RETRY, bench.clock() + pause)
        assert deferred.due_at == waiting.until
        bench.clock.forward(pause)
    [starting] = await kickoff.claim(1)
    assert (starting.attempt, why_waiting(starting)) == (1, None), "while it is being POSTed, it waits for nothing"


async def test_a_run_whose_body_cannot_be_built_leaves_the_trial_and_the_probing_permit_to_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """After a pause, one call goes alone; if it is not sent, the next would wait for a minute."""
    crew, kickoff = bench.crew, bench.kickoff
    crew.breaker.trip("HTTP 401", bench.clock())
    crew.breaker.on_probe(ok=True, now=bench.clock())
    crew.rate_limiter.on_throttled(bench.clock() - 60, bench.clock() - 60, 1.0)
    await bench.accepted()
    with monkeypatch.context() as patch:
        patch.setattr("bridge.steps.runs.kickoff.kickoff_body", lambda *_: 1 / 0)
        await handled(kickoff, await kickoff.claim(9))
    await bench.accepted()
    assert len(await bench.round(kickoff)) == 1
    assert crew.problem(bench.clock()) is None


async def test_a_run_whose_post_may_have_been_sent_is_in_doubt(bench: Bench):
    run = await bench.accepted()
    items = await bench.kickoff.claim(1)
    bench.api.meanwhile = poison
    await handled(bench.kickoff, items)
    in_doubt_run = await bench.now(run)
    assert (in_doubt_run.state, len(bench.api.bodies)) == (State.IN_DOUBT, 1)


async def test_a_running_run_is_deferred_for_longer_each_time_while_others_are_polled(bench: Bench):
    run, other = await bench.started(), await bench.started()
    for pause in DELAYS[:3]:
        bench.clock.forward(60.0)
        await bench.round(bench.recover)
        tracked_runs = {tracked.run_id: tracked for tracked in await bench.poll.claim(99)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.api, "status", poison)
            await handled(bench.poll, [tracked_runs[run.run_id]])
        await bench.poll.handle(tracked_runs[other.run_id])
        deferred = await bench.now(run)
        assert (deferred.state, deferred.owner, deferred.due_at) == (State.RUNNING, None, bench.clock() + pause)
        bench.clock.forward(pause - 1.0)
        assert await bench.round(bench.recover) == []
        bench.clock.forward(1.0)
    await bench.round(bench.recover)
    bench.api.default_status = Succeeded("done", None, None)
    await bench.rounds(bench.poll, 1)
    assert [(await bench.now(each)).state for each in (run, other)] == [State.SUCCEEDED] * 2


async def test_a_deferred_run_is_not_recovered_early_by_the_next_process(bench: Bench):
    await running(bench)
    tracked_runs = await bench.poll.claim(99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.api, "status", poison)
        await handled(bench.poll, tracked_runs)
    await bench.abandon()
    assert await bench.round(bench.recover) == []
    bench.clock.forward(DELAYS[0])
    assert [taken.run_id for taken in await bench.round(bench.recover)] == [tracked.run_id for tracked in tracked_runs]


async def test_a_delivery_is_dead_with_its_reason(bench: Bench):
    await to_deliver(bench)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSender, "send", poison)
        await handled(bench.publish, await bench.publish.claim(99))
    [dead] = await bench.store.queries.find_deliveries(DeliveryFilter())
    assert (dead.state, dead.attempts) == (DeliveryState.DEAD, 1)
    assert dead.last_error == "internal error; see item_quarantined in the log"
    assert len(await bench.store.queries.attempts_for_delivery(dead.delivery_id)) == 1
    assert await bench.store.queries.redeliver(DeliveryFilter(delivery_id=dead.delivery_id), bench.clock()) == 1


async def poison(*_: Any) -> None:
    raise Poison
