"""Several processes on one store: shares, runs handed over, hints that reach the wrong one, answers that come late."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.responses import Started, Succeeded, WaitingForHuman
from bridge.core.crew.webhooks import Kind, read
from bridge.core.errors import StoreUnavailable
from bridge.core.human_input import rules
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.steps.crew_webhooks import ProcessRelayedWebhooks
from bridge.steps.maintenance.rebalance import Rebalance
from tests.component.steps.conftest import KEY, Bench
from tests.fakes import NOW


async def another(bench: Bench) -> Bench:
    """A second process, which has joined, with its own memory, on the same store and clock."""
    other = Bench(bench.another_process(), bench.policy, bench.max_running, bench.clock, bench.ids)
    await other.store.join(bench.clock())
    return other


def given_up_meanwhile(bench: Bench, other: Bench) -> Callable[[Any], Awaitable[None]]:
    """While a POST is under way, the other process takes this one for dead, and its runs for doubtful."""

    async def sleep(_: Any) -> None:
        await other.store.expire_processes(bench.clock(), -1.0)
        await other.store.join(bench.clock())
        assert len(await other.round(other.recover)) > 0

    return sleep


async def sixty_started(bench: Bench) -> list[Run]:
    """Runs that all are under way."""
    bench.max_running = 100
    runs = [await bench.accepted() for _ in range(60)]
    while len(await bench.round(bench.kickoff)):
        pass
    return runs


def keep_to_share(bench: Bench) -> Rebalance:
    return Rebalance(bench.crews, bench.store, bench.clock, bench.signals["recover"])


async def test_a_new_process_gets_its_share_without_waiting_for_ends(bench: Bench):
    runs = await sixty_started(bench)
    other = await another(bench)
    await bench.round(keep_to_share(bench))
    assert len(bench.crew.tracker.queue) == 30
    await other.round(keep_to_share(other))
    await other.round(other.recover)
    assert len(other.crew.tracker.queue) == 30
    assert not {
        run.run_id for run in runs if run.run_id in bench.crew.tracker.queue and run.run_id in other.crew.tracker.queue
    }


async def test_what_was_handed_over_is_not_taken_back(bench: Bench):
    await sixty_started(bench)
    await another(bench)
    await bench.round(keep_to_share(bench))
    await bench.round(bench.recover)
    assert len(bench.crew.tracker.queue) == 30 + 20  # as far as a share may go beyond even


async def waiting_for_human(bench: Bench) -> Run:
    run = await bench.started()
    asked = read(Kind.HUMAN, {"kickoff_id": run.kickoff_id, "task_id": "t", "task_output": "Approve?"}).question
    assert asked is not None
    decision = rules.on_question(run, asked, bench.policy, bench.clock())
    assert decision is not None
    written: Run = await bench.store.apply(decision)
    return written


async def test_a_run_that_waits_for_a_human_is_followed_by_whoever_gets_it(bench: Bench):
    """It left the timetable of the one and stayed its own, so that nobody looked at it until its process ended."""
    run = await waiting_for_human(bench)
    other = await another(bench)
    assert await bench.store.release_runs([run.run_id]) == 1
    await other.round(other.recover)
    assert run.run_id in other.crew.tracker.queue


async def test_while_the_store_is_away_nothing_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    await sixty_started(bench)
    await another(bench)

    async def away(_: Any) -> int:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(bench.store, "release_runs", away)
    with pytest.raises(StoreUnavailable):
        await bench.round(keep_to_share(bench))
    assert len(bench.crew.tracker.queue) == 60


async def test_a_count_is_made_every_three_seconds(bench: Bench):
    keep = keep_to_share(bench)
    assert len(await bench.round(keep)) == 1
    assert await bench.round(keep) == []
    assert keep.pause() == 3.0


async def test_a_run_that_another_process_follows_now_is_looked_at_no_more(bench: Bench):
    """A process that was asleep for long does not know yet that it was given up."""
    run = await bench.started()
    other = await another(bench)
    await bench.store.release_runs([run.run_id])
    await other.round(other.recover)
    bench.clock.forward(60)
    bench.api.status_answers = [Succeeded("done", None, None)]
    await bench.round(bench.poll)
    assert run.run_id not in bench.crew.tracker.queue
    assert (await bench.now(run)).state is State.RUNNING
    other.api.status_answers = [Succeeded("done", None, None)]
    await other.round(other.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_a_hint_that_reaches_the_wrong_process_reaches_the_owner(bench: Bench):
    run = await bench.started()
    other = await another(bench)
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))

    async def read() -> Any:
        return {"kickoff_id": run.kickoff_id, "result": "done"}

    assert await other.webhook(token, Kind.CREW, read)
    assert other.crew.tracker._completion_signalled == {}
    relay = ProcessRelayedWebhooks(bench.store, bench.webhook.handle_relayed)
    assert len(await bench.round(relay)) == 1
    assert await bench.round(relay) == []
    assert bench.crew.tracker.completion_signalled(run.run_id)
    assert bench.crew.tracker.queue.next_due() == 0.0
    assert relay.pause() == 1.0


async def test_a_process_that_takes_a_flows_question_to_another_s_run_keeps_nothing_of_it_in_mind(bench: Bench):
    """That would have stayed there for as long as the process lives."""
    bench.be_a_flow()
    run = await bench.started()
    other = await another(bench)
    question = FlowQuestion(
        run.kickoff_id or "", QuestionContent("q-1", callback_url="https://amp.example.com/respond")
    )
    await other.webhook.handle_flow_question("research", question)
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN
    assert other.crew.tracker._outdated == set()
    assert other.crew.tracker.queue._expedited == set()


async def test_a_process_that_takes_the_answer_for_another_s_run_keeps_nothing_of_it_in_mind(bench: Bench):
    bench.policy = replace(bench.policy, human_input=True)
    run = await bench.started()
    bench.api.status_answers = [WaitingForHuman()]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    other = await another(bench)
    await other.apply_command(run.run_id, Resume(approve=True, task_id="t-1"), "client/orders")
    assert other.crew.tracker._outdated == set()
    other.crew.tracker.queue.put(state_machine.tracked_from_run(run, bench.policy, NOW), NOW)
    assert other.crew.tracker.queue.next_due() == NOW  # not hastened


async def test_a_hint_that_says_nothing_new_of_anothers_run_is_not_passed_on(bench: Bench):
    run = await bench.started()
    other = await another(bench)
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))

    async def read() -> Any:
        return {"kickoff_id": run.kickoff_id}

    assert await other.webhook(token, Kind.STEP, read)
    assert await bench.store.collect_webhooks(9) == []


async def test_evidence_of_a_run_whose_owner_is_dead_settles_its_doubt(bench: Bench):
    """It came between the death and the take-over, reached another process, and lay in the store for a dead one."""
    run = await bench.left_starting()
    other = await another(bench)
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))

    async def content() -> Any:
        return {"kickoff_id": "k-1"}

    assert await other.webhook(token, Kind.CREW, content)
    await bench.round(bench.recover)
    assert (await bench.now(run)).state is State.IN_DOUBT
    assert len(await other.round(ProcessRelayedWebhooks(other.store, other.webhook.handle_relayed))) == 1
    now = await bench.now(run)
    assert (now.state, now.kickoff_id) == (State.RUNNING, "k-1")


async def test_a_late_answer_that_names_anothers_execution_leaves_the_doubt(bench: Bench):
    """It ended the process: a crew that names one execution twice must not be able to."""
    first = await bench.started()
    run = await bench.accepted()
    other = await another(bench)
    bench.api.meanwhile = given_up_meanwhile(bench, other)
    assert first.kickoff_id is not None
    bench.api.kickoff_answers = [Started(first.kickoff_id)]
    with capture_logs() as logs:
        await bench.round(bench.kickoff)
    assert (await bench.now(run)).state is State.IN_DOUBT
    assert "kickoff_id_taken" in [entry["event"] for entry in logs]


async def test_a_question_that_reaches_another_process_before_its_run_is_known_is_asked_all_the_same(bench: Bench):
    """It lay in the memory of that process, and the one that followed the run never heard of it."""
    run = await bench.accepted()
    other = await another(bench)
    bench.api.kickoff_answers = [Started("k-1")]
    asked = read(Kind.HUMAN, {"kickoff_id": "k-1", "task_id": "t", "task_output": "Approve?"}).question
    assert asked is not None
    await other.webhook.handle_flow_question("research", FlowQuestion("k-1", asked))
    await other.round(other.pending_questions)
    await bench.round(bench.kickoff)
    await other.rounds(other.pending_questions, seconds=1)
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_a_process_that_slept_through_its_answer_settles_the_doubt_with_it(bench: Bench):
    """It was given up while its POST was under way; nobody sends a second one, and its answer is the proof."""
    run = await bench.accepted()
    other = await another(bench)
    bench.api.meanwhile = given_up_meanwhile(bench, other)
    bench.api.kickoff_answers = [Started("k-late")]
    with capture_logs() as logs:
        await bench.round(bench.kickoff)
    now = await bench.now(run)
    assert (now.state, now.kickoff_id) == (State.RUNNING, "k-late")
    assert [entry["event"] for entry in logs if "late" in entry["event"]] == ["in_doubt_resolved_by_late_response"]
    assert len(await other.round(other.recover)) == 1


async def test_a_process_that_slept_before_its_post_sends_nothing(bench: Bench):
    run = await bench.accepted()
    [claimed] = await bench.kickoff.claim(1)
    other = await another(bench)
    await other.store.expire_processes(bench.clock(), -1.0)
    worker_saw = ""
    try:
        await bench.kickoff.handle(claimed)
    except Exception as error:  # noqa: BLE001
        worker_saw = type(error).__name__
    assert (worker_saw, bench.api.bodies) == ("Stale", [])
    assert replace(await bench.now(run), version=0) == replace(claimed, version=0, owner=None)
