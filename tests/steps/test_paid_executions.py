"""What a POST may have started is paid for: it is not started again, and not left running when nobody waits for it."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core import tokens
from bridge.core.answers import Failed, InDoubt, NotStarted, Refused, Started, Succeeded
from bridge.core.hints import Kind
from bridge.core.model import DoubtPolicy, Run, State
from bridge.core.steering import Abandon, Cancel, Retry, Steering
from bridge.ports import KickoffNote
from bridge.steps.relay import Relay
from bridge.steps.replay import replay
from tests.steps.conftest import KEY, Bench, with_policy
from tests.steps.test_replay import Notes

RESET = InDoubt("reset")


async def another(bench: Bench) -> Bench:
    """A second process on the same store and the same crew."""
    other = Bench(bench.another_process(), bench.policy, bench.max_running, bench.clock, bench.ids, bench.api)
    await other.store.join(bench.clock())
    return other


async def webhook(bench: Bench, run: Run, body: Any, attempt: int = 1, kind: Kind = Kind.TASK) -> bool:
    async def read() -> Any:
        return body

    return await bench.hint(tokens.issue(KEY, tokens.Attempt(run.run_id, attempt)), kind, read)


async def doubted(bench: Bench) -> Run:
    bench.api.kickoff_answers = [RESET]
    return await bench.started()


def retrying(bench: Bench) -> Bench:
    return with_policy(bench, in_doubt=DoubtPolicy.RETRY, in_doubt_after=1.0)


async def seconds(bench: Bench, count: int) -> None:
    """Let the steps that decide about doubts and start runs work for a while."""
    for _ in range(count):
        bench.clock.forward(1.0)
        await bench.round(bench.doubt)
        await bench.round(bench.kickoff)


async def test_a_post_that_is_always_in_doubt_is_sent_twice_and_then_held(bench: Bench):
    """Ten paid executions in twenty seconds."""
    retrying(bench).api.kickoff_answers = [RESET] * 99
    run = await bench.started()
    await seconds(bench, 30)
    held = await bench.now(run)
    assert (len(bench.api.bodies), held.state, held.due_at, held.auto_retries) == (2, State.IN_DOUBT, None, 1)
    assert await bench.events(run) == ["run.in_doubt"]
    assert len({one.event.event_id for one in await bench.store.deliveries_of(run.run_id)}) == 2


async def test_refusals_that_started_nothing_do_not_renew_the_automatic_retry(bench: Bench):
    retrying(bench).api.kickoff_answers = [RESET, NotStarted("HTTP 503"), NotStarted("HTTP 503"), *[RESET] * 9]
    run = await bench.started()
    await seconds(bench, 60)
    assert (len(bench.api.bodies), (await bench.now(run)).state) == (4, State.IN_DOUBT)


async def test_an_operators_retry_neither_uses_nor_renews_the_automatic_one(bench: Bench):
    retrying(bench).api.kickoff_answers = [RESET] * 99
    run = await bench.started()
    await bench.steer(run.run_id, Retry(), "client/ops")
    await seconds(bench, 30)
    assert len(bench.api.bodies) == 3  # the first, the operator's, the automatic one
    await bench.steer(run.run_id, Retry(), "client/ops")
    await seconds(bench, 30)
    assert (len(bench.api.bodies), (await bench.now(run)).auto_retries) == (4, 1)


async def test_two_replicas_share_one_automatic_retry(bench: Bench):
    retrying(bench).api.kickoff_answers = [RESET] * 99
    other = await another(bench)
    run = await bench.started()
    for _ in range(20):
        await seconds(bench, 1)
        await seconds(other, 1)
    assert (len(bench.api.bodies), (await bench.now(run)).state) == (2, State.IN_DOUBT)


async def test_evidence_that_comes_before_the_repeated_post_spares_it(bench: Bench):
    run = await doubted(retrying(bench))
    bench.clock.forward(1.0)
    await bench.round(bench.doubt)
    assert (await bench.now(run)).state is State.ACCEPTED
    await webhook(bench, run, {"kickoff_id": "k-1"})
    await seconds(bench, 5)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, len(bench.api.bodies)) == (State.RUNNING, "k-1", 1)


async def test_evidence_of_the_first_post_settles_a_doubt_about_the_second(bench: Bench):
    retrying(bench).api.kickoff_answers = [RESET] * 2
    run = await bench.started()
    await seconds(bench, 5)
    await webhook(bench, run, {"kickoff_id": "k-1"}, attempt=1)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, found.attempt) == (State.RUNNING, "k-1", 2)


@pytest.mark.parametrize("meanwhile", [True, False])
async def test_an_execution_beside_the_runs_own_is_logged_and_asks_no_questions(bench: Bench, meanwhile: bool):
    run = await doubted(retrying(bench))
    question = {"kickoff_id": "k-1", "task_id": "t-1", "task_output": "Approve?"}

    async def late(_: Any = None) -> None:
        with capture_logs() as logs:
            await webhook(bench, run, question, attempt=1, kind=Kind.HUMAN)
        assert [(line["event"], line["kickoff_id"]) for line in logs] == [("execution_superseded", "k-1")]

    if meanwhile:
        bench.api.meanwhile = late
    await seconds(bench, 2)
    if not meanwhile:
        await late()
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.RUNNING, "execution-2")


Bring = Callable[[Bench, Run], Awaitable[None]]


async def by_webhook(bench: Bench, run: Run) -> None:
    await webhook(bench, run, {"kickoff_id": "k-1"})


async def by_another_replica(bench: Bench, run: Run) -> None:
    await webhook(await another(bench), run, {"kickoff_id": "k-1"})


async def by_journal(bench: Bench, run: Run) -> None:
    notes = Notes(kept=[KickoffNote(run.run_id, 1, "k-1")])
    await replay(notes, bench.crews, bench.store, bench.clock)
    assert notes.kept == []


@pytest.mark.parametrize("bring", [by_webhook, by_another_replica, by_journal])
@pytest.mark.parametrize(("wish", "state"), [(Cancel(), State.CANCELLED), (Abandon(), State.FAILED)])
@pytest.mark.parametrize("restarted", [False, True])
async def test_late_evidence_of_a_run_that_has_ended_stops_its_execution_and_tells_its_result(
    bench: Bench, wish: Steering, state: State, bring: Bring, restarted: bool
):
    run = await doubted(bench)
    await bench.steer(run.run_id, wish, "client/ops")
    bench.clock.forward(3600)
    if restarted:
        bench.made.clear()
        await bench.abandon()
    await bring(bench, run)
    bench.api.standing_status = Succeeded("paid for")
    await bench.round(bench.late)
    ended = await bench.now(run)
    assert (bench.api.stopped, bench.api.looks) == (["k-1"], ["k-1"])
    assert (ended.state, ended.kickoff_id, ended.due_at) == (state, "k-1", None)
    assert await bench.events(run) == [f"run.{state}", "run.late_result"]
    assert await bench.round(bench.late) == []


async def test_an_answer_to_a_post_whose_run_was_cancelled_meanwhile_stops_the_execution(bench: Bench):
    """Another replica had taken over the run, and an operator had cancelled it."""
    run = await bench.accepted()
    other = await another(bench)

    async def taken_over(_: Any) -> None:
        await other.store.bury(bench.clock(), -1.0)
        await other.store.join(bench.clock())
        await other.round(other.recover)
        await other.steer(run.run_id, Cancel(), "client/ops")

    bench.api.meanwhile, bench.api.kickoff_answers = taken_over, [Started("k-late")]
    with capture_logs() as logs:
        await bench.round(bench.kickoff)
    assert "execution_found_late" in [line["event"] for line in logs]
    await other.round(other.late)
    assert (bench.api.stopped, (await bench.now(run)).state) == (["k-late"], State.CANCELLED)


async def test_a_webhook_saves_what_a_late_answer_in_doubt_does_not_name(bench: Bench):
    run = await bench.accepted()
    other = await another(bench)

    async def taken_over(_: Any) -> None:
        await webhook(bench, run, {"kickoff_id": "k-1"})
        await other.store.bury(bench.clock(), -1.0)
        await other.store.join(bench.clock())
        await other.round(other.recover)

    bench.api.meanwhile, bench.api.kickoff_answers = taken_over, [RESET]
    await bench.round(bench.kickoff)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.RUNNING, "k-1")


async def test_evidence_that_was_left_for_a_dead_process_reaches_a_run_that_was_cancelled_since(bench: Bench):
    run = await bench.left_starting()
    other = await another(bench)
    await webhook(other, run, {"kickoff_id": "k-1"})
    await bench.round(bench.recover)
    await bench.steer(run.run_id, Cancel(), "client/ops")
    assert len(await other.round(Relay(other.store, other.hint.passed_on))) == 1
    await bench.round(bench.late)
    assert bench.api.stopped == ["k-1"]


async def test_evidence_of_a_run_that_was_refused_has_its_execution_stopped_and_told(bench: Bench):
    """The API refused, and started an execution all the same."""
    bench.api.kickoff_answers = [Refused("HTTP 400")]
    run = await bench.started()
    await webhook(bench, run, {"kickoff_id": "k-1"})
    bench.api.standing_status = Failed("stopped")
    await bench.round(bench.late)
    assert (bench.api.stopped, await bench.events(run)) == (["k-1"], ["run.failed", "run.late_result"])


async def test_a_run_that_failed_by_itself_is_neither_stopped_nor_watched(bench: Bench):
    run = await bench.started()
    bench.api.standing_status = Failed("by itself")
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert ((await bench.now(run)).state, await bench.round(bench.late)) == (State.FAILED, [])
    await webhook(bench, run, {"kickoff_id": "another"})
    assert await bench.round(bench.late) == []
