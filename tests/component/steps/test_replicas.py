"""Several processes on one store: rebalancing, misdirected webhooks, and late responses."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import InDoubt, Started, Succeeded, WaitingForHuman
from bridge.core.crew.webhooks import Kind, read
from bridge.core.crew_policy import DoubtPolicy
from bridge.core.errors import StoreUnavailable
from bridge.core.human_input import rules
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs.model import Run, State
from tests.component.steps.conftest import KEY, Bench, with_policy
from tests.fakes import NOW, applied


async def another(bench: Bench) -> Bench:
    """A second process that has joined, with its own memory, on the same store and clock."""
    other = bench.another()
    await other.store.cluster.join(bench.clock())
    return other


def expired_meanwhile(bench: Bench, other: Bench, *, recovered: bool = True) -> Callable[[Any], Awaitable[None]]:
    """During a POST, the other process expires this one; its runs are in doubt, if `recovered`."""

    async def sleep(_: Any) -> None:
        await other.store.cluster.expire_processes(bench.clock(), -1.0)
        await other.store.cluster.join(bench.clock())
        if recovered:
            assert len(await other.round(other.recover)) > 0

    return sleep


async def sixty_started(bench: Bench) -> list[Run]:
    """Sixty running runs."""
    bench.max_running = 100
    runs = [await bench.accepted() for _ in range(60)]
    while len(await bench.round(bench.kickoff)):
        pass
    return runs


async def test_a_new_process_receives_its_fair_share_without_waiting_for_ends(bench: Bench):
    runs = await sixty_started(bench)
    other = await another(bench)
    await bench.round(bench.rebalance)
    assert len(bench.crew.tracker.queue) == 30
    await other.round(other.rebalance)
    await other.round(other.recover)
    assert len(other.crew.tracker.queue) == 30
    assert not {
        run.run_id for run in runs if run.run_id in bench.crew.tracker.queue and run.run_id in other.crew.tracker.queue
    }


async def test_released_runs_are_not_claimed_back(bench: Bench):
    await sixty_started(bench)
    await another(bench)
    await bench.round(bench.rebalance)
    await bench.round(bench.recover)
    assert len(bench.crew.tracker.queue) == 30 + 20  # the tolerance above the fair share


async def waiting_for_human(bench: Bench) -> Run:
    run = await bench.started()
    question = read(Kind.HUMAN, {"kickoff_id": run.kickoff_id, "task_id": "t", "task_output": "Approve?"}).question
    assert question is not None
    decision = rules.on_question(run, question, bench.policy, bench.clock())
    assert decision is not None
    return await applied(bench.store, decision)


async def test_a_run_that_waits_for_a_human_is_tracked_by_its_new_owner(bench: Bench):
    """It left the poll queue of the first process but stayed its own, and was not polled until that process ended."""
    run = await waiting_for_human(bench)
    other = await another(bench)
    assert await bench.store.cluster.release_runs([run.run_id]) == 1
    await other.round(other.recover)
    assert run.run_id in other.crew.tracker.queue


async def test_during_an_outage_of_the_store_nothing_is_released(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    await sixty_started(bench)
    await another(bench)

    async def away(_: Any) -> int:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(bench.store.cluster, "release_runs", away)
    with pytest.raises(StoreUnavailable):
        await bench.round(bench.rebalance)
    assert len(bench.crew.tracker.queue) == 60


async def test_the_membership_is_read_every_three_seconds(bench: Bench):
    keep = bench.rebalance
    assert len(await bench.round(keep)) == 1
    assert await bench.round(keep) == []
    assert keep.pause() == 3.0


async def test_a_run_with_another_owner_is_no_longer_polled(bench: Bench):
    """A process that was suspended for long does not know yet that it has expired."""
    run = await bench.started()
    other = await another(bench)
    await bench.store.cluster.release_runs([run.run_id])
    await other.round(other.recover)
    bench.clock.forward(60)
    bench.api.status_responses = [Succeeded("done", None, None)]
    await bench.round(bench.poll)
    assert run.run_id not in bench.crew.tracker.queue
    assert (await bench.now(run)).state is State.RUNNING
    other.api.status_responses = [Succeeded("done", None, None)]
    await other.round(other.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_a_webhook_that_reaches_another_process_is_handled_by_the_owner(bench: Bench):
    run = await bench.started()
    other = await another(bench)
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))

    async def read() -> Any:
        return {"kickoff_id": run.kickoff_id, "result": "done"}

    assert await other.webhook(token, Kind.CREW, read)
    assert not other.crew.tracker.known(run.run_id).completion_signalled
    assert len(await bench.round(bench.inbox)) == 1
    assert await bench.round(bench.inbox) == []
    assert bench.crew.tracker.known(run.run_id).completion_signalled
    assert bench.crew.tracker.queue.next_due() == 0.0
    assert bench.inbox.pause() == 1.0


async def test_a_process_keeps_no_state_of_a_flow_question_for_a_run_of_another(bench: Bench):
    """The state would have stayed for the lifetime of the process."""
    bench.be_a_flow()
    run = await bench.started()
    other = await another(bench)
    question = FlowQuestion(
        run.kickoff_id or "", QuestionContent("q-1", callback_url="https://amp.example.com/respond")
    )
    await other.flow_question(question)
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN
    assert not other.crew.tracker.take_outdated(run.run_id)
    other.crew.track(run, NOW, first_poll=NOW)
    assert other.crew.tracker.queue.next_due() == NOW  # not expedited


async def test_a_process_keeps_no_state_of_an_answer_for_a_run_of_another(bench: Bench):
    bench.policy = replace(bench.policy, human_input=True)
    run = await bench.started()
    bench.api.status_responses = [WaitingForHuman()]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    other = await another(bench)
    await other.apply_command(run.run_id, Resume(approve=True, task_id="t-1"), "client/orders")
    assert not other.crew.tracker.take_outdated(run.run_id)
    other.crew.track(run, NOW, first_poll=NOW)
    assert other.crew.tracker.queue.next_due() == NOW  # not expedited


async def test_a_webhook_without_news_is_not_stored(bench: Bench):
    run = await bench.started()
    other = await another(bench)
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))

    async def read() -> Any:
        return {"kickoff_id": run.kickoff_id}

    assert await other.webhook(token, Kind.STEP, read)
    assert await bench.store.inbox.due(9, bench.clock(), ()) == []


async def test_evidence_for_a_run_of_a_dead_process_resolves_its_doubt(bench: Bench):
    """It arrived at another process between death and takeover, and stayed in the store for the dead one."""
    run = await bench.left_starting()
    other = await another(bench)
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))

    async def content() -> Any:
        return {"kickoff_id": "k-1"}

    assert await other.webhook(token, Kind.CREW, content)
    await bench.round(bench.recover)
    assert (await bench.now(run)).state is State.IN_DOUBT
    assert len(await other.round(other.inbox)) == 1
    now = await bench.now(run)
    assert (now.state, now.kickoff_id) == (State.RUNNING, "k-1")


async def test_a_late_response_with_the_execution_of_another_run_leaves_the_doubt(bench: Bench):
    """It ended the process: a crew that returns one execution twice must not be able to."""
    first = await bench.started()
    run = await bench.accepted()
    other = await another(bench)
    bench.api.meanwhile = expired_meanwhile(bench, other)
    assert first.kickoff_id is not None
    bench.api.kickoff_responses = [Started(first.kickoff_id)]
    with capture_logs() as logs:
        await bench.round(bench.kickoff)
    assert (await bench.now(run)).state is State.IN_DOUBT
    assert "kickoff_id_taken" in [entry["event"] for entry in logs]


async def test_a_question_that_reaches_another_process_before_its_run_is_known_is_reported(bench: Bench):
    """It stayed in the memory of that process, and the owner of the run never received it."""
    run = await bench.accepted()
    other = await another(bench)
    bench.api.kickoff_responses = [Started("k-1")]
    question = read(Kind.HUMAN, {"kickoff_id": "k-1", "task_id": "t", "task_output": "Approve?"}).question
    assert question is not None
    await other.flow_question(FlowQuestion("k-1", question))
    await bench.round(bench.kickoff)
    await other.rounds(other.inbox, seconds=1)
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_evidence_that_reaches_another_process_calls_off_a_post_that_waits_for_a_permit(bench: Bench):
    bench = with_policy(bench, in_doubt=DoubtPolicy.RETRY, in_doubt_after=1.0)
    bench.api.kickoff_responses = [InDoubt("reset"), Started("k-2")]
    run = await bench.started()
    other = await another(bench)
    await bench.rounds(bench.in_doubt, seconds=1)
    bench.crews["research"] = replace(bench.crew, rate_limiter=RateLimiter(1.0))
    assert bench.crew.rate_limiter.acquire(bench.clock()) == 0.0
    assert await bench.round(bench.kickoff) == []

    async def content() -> Any:
        return {"kickoff_id": "k-1"}

    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, 1))
    assert await other.receive.crew_webhook(token, Kind.CREW, content)
    bench.clock.forward(1.0)
    assert await bench.round(bench.kickoff) == []
    await other.round(other.inbox)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, len(bench.api.bodies)) == (State.RUNNING, "k-1", 1)


@pytest.mark.parametrize("recovered", [True, False])
async def test_a_process_suspended_during_its_post_resolves_the_doubt_with_the_response(bench: Bench, recovered: bool):
    """It expired during its POST; no process sends a second one, and the response is the evidence."""
    run = await bench.accepted()
    other = await another(bench)
    bench.api.meanwhile = expired_meanwhile(bench, other, recovered=recovered)
    bench.api.kickoff_responses = [Started("k-late")]
    with capture_logs() as logs:
        await bench.round(bench.kickoff)
    now = await bench.now(run)
    assert (now.state, now.kickoff_id) == (State.RUNNING, "k-late")
    assert [entry["event"] for entry in logs if "late" in entry["event"]] == ["run_resolved_by_late_response"]
    assert len(await other.round(other.recover)) == 1
