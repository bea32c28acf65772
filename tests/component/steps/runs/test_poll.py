"""Polling of executions: only changes are written, and no run ends without a poll."""

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import (
    Failed,
    NoResponse,
    NotFound,
    Pending,
    Running,
    StatusResponse,
    Succeeded,
    TooLarge,
    Unknown,
    read_status,
)
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Decision, Run, State, TrackedRun
from bridge.steps.runs.poll import BATCH_WINDOW
from tests.component.steps.conftest import Bench, with_policy
from tests.fakes import NOW, applied

DONE = Succeeded("text", {"a": 1}, None)


async def poll(bench: Bench, *responses: StatusResponse) -> None:
    """Make the next polls when they are due, with these responses."""
    for response in responses:
        due = bench.crew.tracker.queue.next_due()
        assert due is not None
        bench.clock.moment = max(bench.clock.moment, due)
        bench.api.status_responses = [response]
        assert len(await bench.round(bench.poll)) == 1


async def test_no_run_is_polled_before_it_is_due(bench: Bench):
    await bench.started()
    assert await bench.poll.claim(9) == []
    assert 4 < bench.poll.pause() < 6
    bench.clock.forward(6)
    assert bench.poll.pause() <= BATCH_WINDOW
    assert len(await bench.poll.claim(9)) == 1


def test_without_tracked_runs_the_step_waits_for_a_signal(bench: Bench):
    assert bench.poll.pause() == 1.0


async def test_a_run_that_is_due_before_all_others_wakes_the_worker(bench: Bench):
    """The worker waited for the next run that was due when this one was taken."""
    signal = bench.signals["poll-research"]
    await bench.started()
    await poll(bench, Running())
    assert signal.is_set()
    signal.clear()
    await bench.started()
    signal.clear()
    for _ in range(3):
        await poll(bench, Running())
        assert not signal.is_set(), "the other run is due earlier"
    bench.clock.forward(9)
    await bench.round(bench.poll)
    assert signal.is_set()


async def test_a_poll_without_a_change_neither_writes_nor_reads(bench: Bench):
    await bench.started()
    await poll(bench, Running({"completed": 1}))
    spy = bench.spy()
    await poll(bench, Running({"completed": 1}), NoResponse("HTTP 502"), Pending(), Running(None), Unknown("?"))
    assert spy.calls == []
    assert len(bench.api.polls) == 6


async def test_the_first_status_is_written_because_the_deadline_counts_from_it(bench: Bench):
    run = await bench.started()
    await poll(bench, Pending(), Running())
    stored = await bench.now(run)
    assert (stored.started_at, stored.polls) == (bench.clock(), 2)


async def test_progress_is_written(bench: Bench):
    run = await bench.started()
    await poll(bench, Running({"completed": 0}), Running({"completed": 2, "total": 3}))
    assert (await bench.now(run)).progress == {"completed": 2, "total": 3}


async def test_an_end_is_written_with_its_event_and_tracking_stops(bench: Bench):
    run = await bench.started()
    assert bench.notified("kickoff-research")
    await poll(bench, Running(), DONE)
    ended = await bench.now(run)
    assert (ended.state, ended.outcome.result, ended.polls) == (State.SUCCEEDED, "text", 2)
    assert await bench.events(run) == ["run.succeeded"]
    assert run.run_id not in bench.crew.tracker.queue
    assert bench.notified("deliver-broker")
    assert bench.notified("kickoff-research")  # of the free slot


async def test_a_free_slot_is_used(bench: Bench):
    bench.max_running = 1
    await bench.started()
    second = await bench.started()
    assert second.state is State.ACCEPTED
    await poll(bench, Failed("boom"))
    await bench.round(bench.kickoff)
    assert (await bench.now(second)).state is State.RUNNING


async def test_a_slot_that_no_run_waits_for_wakes_nobody(bench: Bench):
    bench.max_running = 99
    await bench.started()
    assert bench.notified("kickoff-research")
    await poll(bench, DONE)
    assert not bench.notified("kickoff-research")


async def test_the_last_poll_is_sent_at_the_deadline_and_ends_the_run(bench: Bench):
    run = await bench.started(deadline=60.0)
    await poll(bench, Running())
    first_seen = bench.clock()
    while (await bench.now(run)).state is State.RUNNING:
        await poll(bench, Running())
    ended = await bench.now(run)
    assert (ended.state, bench.clock()) == (State.TIMED_OUT, first_seen + 60)
    assert await bench.events(run) == ["run.timed_out"]


async def test_a_deadline_without_a_successful_poll_ends_nothing(bench: Bench):
    run = await bench.started(deadline=60.0)
    await poll(bench, Running())
    for _ in range(30):
        await poll(bench, NoResponse("connection closed"))
    assert bench.clock() > NOW + 600
    assert (await bench.now(run)).state is State.RUNNING
    await poll(bench, DONE)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_time_in_the_queue_of_the_api_does_not_count_toward_the_deadline(bench: Bench):
    run = await bench.started(deadline=60.0)
    for _ in range(40):
        await poll(bench, Pending())
    assert bench.clock() > NOW + 120
    assert (await bench.now(run)).state is State.RUNNING


async def test_an_execution_that_is_no_longer_found_is_lost(bench: Bench):
    run = await bench.started()
    await poll(bench, Running())
    for _ in range(40):
        if (await bench.now(run)).final:
            break
        await poll(bench, NotFound())
    lost = await bench.now(run)
    assert lost.outcome.error is not None
    assert (lost.state, lost.outcome.error.code) == (State.FAILED, "lost")
    assert bench.clock() >= NOW + 60


async def test_a_crew_with_human_input_may_be_not_found_for_long(bench: Bench):
    run = await with_policy(bench, human_input=True).started(deadline=600.0)
    while bench.clock() < NOW + 500:
        await poll(bench, NotFound())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN
    assert await bench.events(run) == ["run.waiting_for_human"]


async def test_retry_after_is_obeyed(bench: Bench):
    await bench.started()
    await poll(bench, NoResponse("HTTP 429", after=120.0))
    assert bench.crew.tracker.queue.next_due() == bench.clock() + 120


async def test_consecutive_errors_make_polls_rarer(bench: Bench):
    await bench.started()
    waits = []
    for _ in range(4):
        await poll(bench, NoResponse("HTTP 500"))
        due = bench.crew.tracker.queue.next_due()
        assert due is not None
        waits.append(due - bench.clock())
    assert waits == sorted(waits)
    assert waits[-1] > 50


async def test_a_status_that_is_too_large_is_logged_once_and_polled_ever_less_often(bench: Bench):
    run = await with_policy(bench, deadline=3600.0, max_response=1000).started()
    waits = []
    with capture_logs() as logs:
        for _ in range(4):
            await poll(bench, TooLarge(succeeded=False))
            due = bench.crew.tracker.queue.next_due()
            assert due is not None
            waits.append(due - bench.clock())
        await poll(bench, TooLarge(succeeded=True))
    assert waits[:3] == sorted(waits[:3])
    assert waits[-1] > 50
    assert [line["event"] for line in logs] == ["status_too_large", "run_ended"]
    ended = await bench.now(run)
    assert ended.outcome.error is not None
    assert (ended.state, ended.outcome.error.code) == (State.FAILED, "result_too_large")


async def test_the_deadline_of_a_run_applies_even_if_its_status_is_too_large(bench: Bench):
    run = await bench.started()
    await poll(bench, Running())
    bench.clock.forward(600)
    await poll(bench, TooLarge(succeeded=False))
    assert (await bench.now(run)).state is State.TIMED_OUT


async def test_a_run_cancelled_during_its_poll_is_not_tracked_further(bench: Bench):
    run = await bench.started()
    await poll(bench, Running())
    bench.clock.forward(60)
    [tracked] = await bench.poll.claim(9)
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    await bench.poll.handle(tracked)
    assert (len(bench.crew.tracker), bench.crew.tracker.take_outdated(run.run_id)) == (0, False)


async def test_runs_polled_while_the_process_expires_are_not_tracked_further(bench: Bench):
    await bench.started()
    bench.clock.forward(6)
    [tracked] = await bench.poll.claim(9)
    bench.crew.tracker.queue.expedite(tracked.run_id)
    bench.crew.tracker.mark_webhook_seen(tracked.run_id)
    await bench.store.cluster.expire_processes(bench.clock(), -1.0)
    await bench.round(bench.housekeeping)
    await bench.poll.handle(tracked)
    assert (len(bench.crew.tracker), bench.crew.tracker.known(tracked.run_id).webhook_seen) == (0, False)


async def test_tracking_ends_for_a_run_that_another_process_ended(bench: Bench):
    run = await bench.started()
    bench.crew.tracker.mark_webhook_seen(run.run_id)
    await bench.store.apply(Decision(replace(run, state=State.CANCELLED, finished_at=NOW, owner=None)))
    await poll(bench, DONE)
    assert not bench.crew.tracker.known(run.run_id).webhook_seen


class ReadFailingStore:
    """A store that fails to read for a time; writes succeed."""

    def __init__(self, store: object) -> None:
        self._store = store

    async def load(self, run_id: str) -> None:
        raise StoreUnavailable("disk full")

    def owned_elsewhere(self, _: Run) -> bool:
        return False

    def short_of_slots(self, _: str) -> bool:
        return False

    async def apply(self, decision: Decision) -> object:
        return await self._store.apply(decision)  # type: ignore[attr-defined]


async def test_the_end_of_a_run_started_by_this_process_is_written_without_a_read(bench: Bench):
    run = await bench.started(inputs={"topic": "x" * 2000}, meta={"order": 17})
    store, bench.store = bench.store, ReadFailingStore(bench.store)
    await poll(bench, Running({"completed": 1}), DONE)
    bench.store = store
    ended = await bench.now(run)
    assert (ended.state, ended.request) == (State.SUCCEEDED, run.request)


async def test_a_change_that_cannot_be_written_is_found_again(bench: Bench):
    run = await bench.started()
    bench.crew.tracker.take_cached(run.run_id)
    store, bench.store = bench.store, ReadFailingStore(bench.store)
    with pytest.raises(StoreUnavailable):
        await poll(bench, DONE)
    assert run.run_id in bench.crew.tracker.queue
    bench.store = store
    await poll(bench, DONE)
    assert (await bench.now(run)).state is State.SUCCEEDED


@pytest.mark.parametrize("away", [True, False])
async def test_a_poll_that_is_not_sent_returns_its_permit(bench: Bench, *, away: bool):
    """After a pause one call goes alone. Here it is not sent: the store is unavailable, or the run has ended."""
    run = await bench.started()
    bench.crew.tracker.mark_changed(await bench.now(run))
    await bench.store.apply(Decision(replace(run, state=State.CANCELLED, finished_at=NOW, owner=None)))
    bench.crew.rate_limiter.on_throttled(bench.clock(), bench.clock(), 1.0)
    bench.clock.forward(10)
    bench.store = ReadFailingStore(bench.store) if away else bench.store
    with pytest.raises(StoreUnavailable) if away else nullcontext():
        assert await bench.round(bench.poll) != []
    bench.clock.forward(1)
    assert (bench.api.polls, bench.crew.rate_limiter.acquire(bench.clock())) == ([], 0.0)


async def test_a_run_that_ended_meanwhile_is_not_tracked_further(bench: Bench):
    run = await bench.started()
    await bench.store.apply(Decision(replace(run, state=State.CANCELLED, finished_at=NOW, owner=None)))
    await poll(bench, DONE)
    assert (await bench.now(run)).state is State.CANCELLED
    assert run.run_id not in bench.crew.tracker.queue


class WrittenWhileRead:
    """A store in which another process writes a run just after it was read."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._store = bench, bench.store

    async def load(self, run_id: str) -> Run:
        run: Run = await self._store.load(run_id)
        self._bench.crew.tracker.mark_changed(run)
        return run


async def test_a_change_during_a_read_is_read_by_the_next_poll(bench: Bench):
    """The mark was removed after the read, and the second change with it."""
    run = await bench.started()
    await poll(bench, Running())
    store, bench.store = bench.store, WrittenWhileRead(bench)
    bench.crew.tracker.mark_changed(await store.load(run.run_id))
    await poll(bench, Running())
    bench.store = store
    spy = bench.spy()
    await poll(bench, Running())
    assert spy.calls == ["load"]


class Overtaken:
    """A store in which another writer twice writes the run first."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.others = 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def apply(self, decision: Decision) -> Any:
        if self.others:
            self.others -= 1
            await applied(self._store, Decision(await self._store.load(decision.run.run_id)))
        return await self._store.apply(decision)


async def test_the_end_of_a_run_that_is_written_concurrently_is_stored(bench: Bench):
    """Otherwise it would be polled and decided again, or, if it left the poll queue, not until a restart."""
    run = await bench.started()
    bench.store = Overtaken(bench.store)
    await poll(bench, DONE)
    assert (await bench.now(run)).state is State.SUCCEEDED
    assert (bench.store.others, len(bench.crew.tracker)) == (0, 0)


async def test_polls_respect_the_request_rate_and_prefer_the_likeliest_ends(bench: Bench):
    """All are due; the run polled longest ago is the likeliest to have ended, and there is one permit."""
    bench.max_running = 9
    for _ in range(3):
        await bench.started()
    bench.clock.forward(99)
    bench.crews["research"] = replace(bench.crew, rate_limiter=RateLimiter(1.0))
    [first] = await bench.poll.claim(9)
    assert await bench.poll.claim(9) == []
    assert bench.crew.tracker.queue.overdue == 2
    assert 0.5 < bench.poll.pause() <= 1.0
    bench.clock.forward(1.0)
    assert len(await bench.poll.claim(9)) == 1
    await bench.poll.handle(first)
    assert (bench.api.permits, bench.api.polls) == (0, [first.kickoff_id]), "a poll waits in the queue"


async def test_a_run_that_is_being_polled_is_not_claimed_twice(bench: Bench):
    await bench.started()
    bench.clock.forward(99)
    [tracked] = await bench.poll.claim(9)
    assert isinstance(tracked, TrackedRun)
    assert await bench.poll.claim(9) == []


@pytest.mark.parametrize(
    ("response", "logged"),
    [
        (Succeeded(None), ["result_missing", "run_ended"]),
        (Succeeded(None, 0), ["run_ended"]),
        (Succeeded("text", dropped=("result_json",)), ["result_incomplete", "run_ended"]),
    ],
)
async def test_no_result_is_dropped_without_a_log_line(bench: Bench, response: Succeeded, logged: list[str]):
    run = await bench.started()
    bench.api.status_responses = [response]
    bench.clock.forward(6)
    with capture_logs() as logs:
        await bench.round(bench.poll)
    assert [line["event"] for line in logs if line["event"] != "run_time_drift_detected"] == logged
    ended = await bench.now(run)
    assert (ended.outcome.result, ended.outcome.result_json) == (response.result, response.result_json)


@pytest.mark.parametrize("completed", [3, "3", 1e300, -1, True])
async def test_no_progress_ends_a_run(bench: Bench, completed: Any):
    """All tasks can be done while the execution still works."""
    run = await bench.started()
    body = {"status": "running", "progress": {"completed_tasks": completed, "total_tasks": 3}}
    bench.api.status_responses = [read_status(Reply(200, json.dumps(body).encode()))]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.RUNNING
