"""Commands: cancelling runs, resolving runs in doubt, and late results."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.crew import webhook_tokens
from bridge.core.crew.responses import Failed, InDoubt, NoResponse, Running, StopResponse, Succeeded
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import PostInProgress, RequestRefused, StoreUnavailable
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs import timing
from bridge.core.runs.commands import Abandon, Adopt, Cancel, Retry, RunCommand
from bridge.core.runs.model import Run, State
from tests.component.steps.conftest import KEY, Bench, OneDatabase
from tests.fakes import NOW

OVER = {State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED}


async def in_doubt(bench: Bench) -> Run:
    bench.api.kickoff_responses = [InDoubt("reset")]
    run = await bench.started()
    assert run.state is State.IN_DOUBT
    return run


async def test_an_accepted_run_is_cancelled_and_never_posted(bench: Bench):
    run = await bench.accepted()
    cancelled = await bench.apply_command(run.run_id, Cancel(), "client/orders")
    assert (cancelled.state, await bench.events(run)) == (State.CANCELLED, ["run.cancelled"])
    assert await bench.round(bench.kickoff) == []
    assert await bench.round(bench.late_results) == []


async def test_a_running_run_is_cancelled_at_once_and_its_execution_is_stopped_and_polled(bench: Bench):
    run = await bench.started()
    assert run.kickoff_id is not None
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    assert await bench.events(run) == ["run.cancelled"]
    assert run.run_id not in bench.crew.tracker.queue
    await bench.round(bench.late_results)
    bench.clock.forward(3_600)
    await bench.round(bench.late_results)
    assert bench.api.stopped == [run.kickoff_id]
    assert len(bench.api.polls) == 2


@pytest.mark.parametrize("response", [Succeeded("late", {"n": 1}), Failed("also late")])
async def test_a_late_end_is_reported_once(bench: Bench, response: Succeeded | Failed):
    run = await bench.started()
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    bench.api.status_responses = [Running(), response]
    for _ in range(5):
        await bench.round(bench.late_results)
        bench.clock.forward(7_200)
    assert await bench.events(run) == ["run.cancelled", "run.late_result"]
    assert len(bench.api.polls) == 2
    assert (await bench.now(run)).state is State.CANCELLED


async def test_a_late_result_is_reported_although_its_run_changes_during_the_poll(bench: Bench):
    """An answer was being sent when its run was cancelled; without this, the execution would not be polled again."""
    run = await bench.started()
    await bench.ask(run, QuestionContent("t-1"))
    await bench.apply_command(run.run_id, Resume(approve=True), "client/orders")
    polled: list[Run] = []

    async def meanwhile(_: Any) -> None:
        bench.clock.forward(1)
        await bench.apply_command(run.run_id, Cancel(), "client/orders")
        polled.extend(await bench.late_results.claim(1))

    bench.api.meanwhile = meanwhile
    await bench.round(bench.human_input)
    assert (await bench.now(run)).human_input.aliases == ("alias-1",)
    bench.api.default_status = Succeeded("late")
    bench.clock.forward(1)
    await bench.late_results.handle(polled[0])
    assert await bench.events(run) == ["run.waiting_for_human", "run.cancelled", "run.late_result"]
    assert (await bench.now(run)).human_input.aliases == ("alias-1",)


async def test_a_process_that_expired_during_a_late_poll_leaves_it_to_others(bench: Bench):
    run = await bench.started()
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    bench.api.default_status = Succeeded("late")
    [polled] = await bench.late_results.claim(1)
    await bench.abandon()
    await bench.late_results.handle(polled)
    assert await bench.events(run) == ["run.cancelled"]
    await bench.round(bench.late_results)
    assert await bench.events(run) == ["run.cancelled", "run.late_result"]
    assert await bench.round(bench.late_results) == []


async def test_a_stop_is_left_to_the_worker_of_its_crew(bench: Bench):
    """A crew that did not respond occupied all slots of the shared worker."""
    run = await bench.started()
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    of_another = bench.steps.late_results(replace(bench.crew, name="triage"))
    assert await of_another.claim(9) == []
    assert len(await bench.late_results.claim(9)) == 1


async def test_a_late_execution_is_polled_for_a_day(bench: Bench):
    run = await bench.started()
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    bench.api.default_status = NoResponse("HTTP 500")
    for _ in range(200):
        await bench.round(bench.late_results)
        bench.clock.forward(600)
    assert (await bench.now(run)).due_at is None
    assert len(bench.api.polls) < 40


async def test_a_timed_out_run_is_polled_and_not_stopped(bench: Bench):
    run = await bench.started()
    for _ in range(130):
        bench.clock.forward(5.6)
        await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.TIMED_OUT
    bench.api.default_status = Succeeded("late")
    await bench.round(bench.late_results)
    assert await bench.events(run) == ["run.timed_out", "run.late_result"]
    assert bench.api.stopped == []


async def test_cancelling_twice_changes_nothing_and_an_ended_run_cannot_be_cancelled(bench: Bench):
    run = await bench.accepted()
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    assert await bench.events(run) == ["run.cancelled"]
    other = await bench.started()
    bench.api.status_responses = [Succeeded("done")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    with pytest.raises(RequestRefused, match="has already ended") as refused:
        await bench.apply_command(other.run_id, Cancel(), "client/orders")
    assert refused.value.code == "run_is_over"


async def test_a_full_disk_is_reported_to_the_caller_at_once(bench: Bench, one_database: OneDatabase):
    """The caller waited until the disk had space; now the command fails, and the caller can repeat it."""
    run = await bench.started()

    one_database.full = True
    try:
        with pytest.raises(StoreUnavailable):
            await bench.apply_command(run.run_id, Cancel(), "client/orders")
    finally:
        one_database.full = False
    assert (await bench.now(run)).state is State.RUNNING
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    assert len(await bench.deliver()) == len(await bench.store.queries.deliveries_for_run(run.run_id)) == 2


async def test_commands_are_refused_during_a_post(bench: Bench):
    run = await bench.left_starting()
    for command in (Cancel(), Retry(), Adopt("k-1"), Abandon()):
        with pytest.raises(PostInProgress):
            await bench.apply_command(run.run_id, command, "client/ops")


@pytest.mark.parametrize("command", [Retry(), Adopt("k-1"), Abandon()])
async def test_only_a_run_in_doubt_can_be_resolved(bench: Bench, command: RunCommand):
    run = await bench.accepted()
    with pytest.raises(RequestRefused) as refused:
        await bench.apply_command(run.run_id, command, "client/ops")
    assert refused.value.code == "not_in_doubt"


async def test_an_operator_may_retry_a_run_in_doubt_at_once(bench: Bench):
    run = await in_doubt(bench)
    await bench.apply_command(run.run_id, Retry(), "client/ops")
    await bench.round(bench.kickoff)
    again = await bench.now(run)
    assert (again.state, again.attempt, len(bench.api.bodies)) == (State.RUNNING, 2, 2)


async def test_an_operator_may_adopt_an_execution_for_a_run_in_doubt(bench: Bench):
    run = await in_doubt(bench)
    await bench.apply_command(run.run_id, Adopt("k-77"), "client/ops")
    await bench.round(bench.recover)
    bench.api.status_responses = [Succeeded("found")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert ((await bench.now(run)).state, bench.api.polls) == (State.SUCCEEDED, ["k-77", "k-77"])
    assert len(bench.api.bodies) == 1


async def test_a_held_run_is_started_only_by_its_release_and_can_adopt_its_execution(bench: Bench):
    ran, waiting = await bench.accepted(), await bench.accepted(inputs={"topic": "another"})
    assert await bench.store.queries.hold_accepted(NOW) == 2
    await bench.round(bench.kickoff)
    assert bench.api.bodies == []

    await bench.apply_command(ran.run_id, Adopt("k-77"), "client/ops")
    await bench.round(bench.recover)
    bench.api.status_responses = [Succeeded("found")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert (await bench.now(ran)).state is State.SUCCEEDED

    assert await bench.store.queries.release(None, None, "client/ops", bench.clock()) == 1
    await bench.round(bench.kickoff)
    assert ((await bench.now(waiting)).state, len(bench.api.bodies)) == (State.RUNNING, 1)


async def test_an_operator_may_abandon_a_run_in_doubt(bench: Bench):
    run = await in_doubt(bench)
    await bench.apply_command(run.run_id, Abandon(), "client/ops")
    ended = await bench.now(run)
    assert ended.outcome.error is not None
    assert (ended.state, ended.outcome.error.code) == (State.FAILED, "abandoned")
    assert await bench.events(run) == ["run.failed"]


async def test_a_run_in_doubt_may_be_cancelled(bench: Bench):
    run = await in_doubt(bench)
    assert (await bench.apply_command(run.run_id, Cancel(), "client/orders")).state is State.CANCELLED


async def test_an_adopted_id_must_be_valid(bench: Bench):
    run = await in_doubt(bench)
    with pytest.raises(RequestRefused) as refused:
        await bench.apply_command(run.run_id, Adopt("../kickoff"), "client/ops")
    assert refused.value.field == "kickoff_id"


async def test_the_execution_of_another_run_cannot_be_adopted(bench: Bench):
    first = await bench.started(inputs={"topic": "another"})
    run = await in_doubt(bench)
    assert first.kickoff_id is not None
    with pytest.raises(RequestRefused) as refused:
        await bench.apply_command(run.run_id, Adopt(first.kickoff_id), "client/ops")
    assert (refused.value.code, refused.value.field) == ("invalid_request", "kickoff_id")
    assert (await bench.now(run)).state is State.IN_DOUBT


async def test_an_unknown_run_has_a_code_of_its_own(bench: Bench):
    with pytest.raises(RequestRefused) as refused:
        await bench.apply_command("00000000-0000-7000-8000-000000000999", Cancel(), "client/ops")
    assert refused.value.code == "unknown_run"


@pytest.mark.parametrize("content", [{"kickoff_id": "execution-1", "result": "late"}, {"result": "late"}])
async def test_after_a_webhook_the_execution_of_an_ended_run_is_polled_until_the_status_confirms_the_end(
    bench: Bench, content: dict[str, str]
):
    """The status may lag behind the webhook by some seconds."""
    run = await bench.started()
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    await bench.round(bench.late_results)
    bench.clock.forward(10)
    assert await bench.round(bench.late_results) == []
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, 1))

    async def read() -> Any:
        return content

    await bench.webhook(token, Kind.CREW, read)
    polled = []
    for _ in range(50):
        polled += [bench.clock() - NOW for _ in await bench.round(bench.late_results)]
        bench.clock.forward(bench.late_results.pause() if bench.late_results.pause() < 1 else 0.3)
    assert len(polled) == 1 + len(timing.AFTER_SIGNALLED_END)
    bench.api.default_status = Succeeded("late")
    await bench.webhook(token, Kind.CREW, read)
    await bench.round(bench.late_results)
    assert await bench.events(run) == ["run.cancelled", "run.late_result"]
    await bench.webhook(token, Kind.CREW, read)
    assert await bench.round(bench.late_results) == []


async def test_an_execution_that_cannot_be_stopped_because_it_has_ended_is_polled_soon(bench: Bench):
    run = await bench.started()
    bench.api.stop_response = StopResponse.ENDED
    await bench.apply_command(run.run_id, Cancel(), "client/orders")
    await bench.round(bench.late_results)
    assert (await bench.now(run)).due_at == bench.clock() + timing.AFTER_SIGNALLED_END[0]
