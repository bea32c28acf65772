"""A POST may start a paid execution: it is never repeated by mistake, and an unneeded execution is stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    NoResponse,
    NotFound,
    NotStarted,
    Pending,
    Refused,
    Started,
    StatusResponse,
    Succeeded,
    Unknown,
)
from bridge.core.crew.webhooks import Kind
from bridge.core.crew_policy import DoubtPolicy
from bridge.core.errors import CrewUnreachable, RequestRefused
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.commands import Abandon, Adopt, Cancel, Retry, RunCommand
from bridge.core.runs.model import Run, State
from bridge.ports.journal import JournalEntry
from bridge.steps.recovery.journal import replay_journal
from bridge.steps.runs import commands
from tests.component.steps.conftest import KEY, Bench, with_policy
from tests.component.steps.recovery.test_journal import MemoryJournal
from tests.fakes import raise_fault

RESET = InDoubt("reset")


async def another(bench: Bench) -> Bench:
    """A second process on the same store with the same crew."""
    other = bench.another()
    other.api = bench.api
    await other.store.cluster.join(bench.clock())
    return other


async def webhook(bench: Bench, run: Run, body: Any, attempt: int = 1, kind: Kind = Kind.TASK) -> bool:
    async def read() -> Any:
        return body

    return await bench.webhook(webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, attempt)), kind, read)


async def in_doubt(bench: Bench) -> Run:
    bench.api.kickoff_responses = [RESET]
    return await bench.started()


def retrying(bench: Bench) -> Bench:
    return with_policy(bench, in_doubt=DoubtPolicy.RETRY, in_doubt_after=1.0)


async def seconds(bench: Bench, count: int) -> None:
    """Run the steps that resolve doubts and start runs for this many seconds."""
    for _ in range(count):
        bench.clock.forward(1.0)
        await bench.round(bench.in_doubt)
        await bench.round(bench.kickoff)


async def test_a_post_that_is_always_in_doubt_is_sent_twice_and_then_held(bench: Bench):
    """Ten paid executions in twenty seconds."""
    retrying(bench).api.kickoff_responses = [RESET] * 99
    run = await bench.started()
    await seconds(bench, 30)
    held = await bench.now(run)
    assert (len(bench.api.bodies), held.state, held.due_at, held.auto_retries) == (2, State.IN_DOUBT, None, 1)
    assert await bench.events(run) == ["run.in_doubt"]
    assert len({one.event.event_id for one in await bench.store.queries.deliveries_for_run(run.run_id)}) == 2


async def test_refusals_do_not_renew_the_automatic_retry(bench: Bench):
    retrying(bench).api.kickoff_responses = [RESET, NotStarted("HTTP 503"), NotStarted("HTTP 503"), *[RESET] * 9]
    run = await bench.started()
    await seconds(bench, 60)
    assert (len(bench.api.bodies), (await bench.now(run)).state) == (4, State.IN_DOUBT)


async def test_a_manual_retry_neither_uses_nor_renews_the_automatic_one(bench: Bench):
    retrying(bench).api.kickoff_responses = [RESET] * 99
    run = await bench.started()
    await bench.apply_command(run.run_id, Retry(), "client/ops")
    await seconds(bench, 30)
    assert len(bench.api.bodies) == 3  # the first, the manual, and the automatic one
    await bench.apply_command(run.run_id, Retry(), "client/ops")
    await seconds(bench, 30)
    assert (len(bench.api.bodies), (await bench.now(run)).auto_retries) == (4, 1)


async def test_two_replicas_share_one_automatic_retry(bench: Bench):
    retrying(bench).api.kickoff_responses = [RESET] * 99
    other = await another(bench)
    run = await bench.started()
    for _ in range(20):
        await seconds(bench, 1)
        await seconds(other, 1)
    assert (len(bench.api.bodies), (await bench.now(run)).state) == (2, State.IN_DOUBT)


async def test_evidence_before_the_repeated_post_avoids_it(bench: Bench):
    run = await in_doubt(retrying(bench))
    bench.clock.forward(1.0)
    await bench.round(bench.in_doubt)
    assert (await bench.now(run)).state is State.ACCEPTED
    await webhook(bench, run, {"kickoff_id": "k-1"})
    await seconds(bench, 5)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, len(bench.api.bodies)) == (State.RUNNING, "k-1", 1)


async def test_evidence_of_the_first_post_resolves_a_doubt_about_the_second(bench: Bench):
    retrying(bench).api.kickoff_responses = [RESET] * 2
    run = await bench.started()
    await seconds(bench, 5)
    await webhook(bench, run, {"kickoff_id": "k-1"}, attempt=1)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, found.attempt) == (State.RUNNING, "k-1", 2)


@pytest.mark.parametrize("meanwhile", [True, False])
async def test_a_second_execution_of_a_run_is_logged_and_its_questions_are_ignored(bench: Bench, meanwhile: bool):
    run = await in_doubt(retrying(bench))
    question = {"kickoff_id": "k-1", "task_id": "t-1", "task_output": "Approve?"}

    async def late(_: Any = None) -> None:
        await webhook(bench, run, question, attempt=1, kind=Kind.HUMAN)

    if meanwhile:
        bench.api.meanwhile = late
    await seconds(bench, 2)
    with capture_logs() as logs:
        if meanwhile:
            await bench.round(bench.inbox)
        else:
            await late()
    assert [(line["event"], line["kickoff_id"]) for line in logs] == [("execution_superseded", "k-1")]
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.RUNNING, "execution-2")


ProvideEvidence = Callable[[Bench, Run], Awaitable[None]]


async def by_webhook(bench: Bench, run: Run) -> None:
    await webhook(bench, run, {"kickoff_id": "k-1"})


async def by_another_replica(bench: Bench, run: Run) -> None:
    await webhook(await another(bench), run, {"kickoff_id": "k-1"})


async def by_journal(bench: Bench, run: Run) -> None:
    entries = MemoryJournal(kept=[JournalEntry(run.run_id, 1, "k-1")])
    await replay_journal(entries, bench.crews, bench.store, bench.clock, raise_fault)
    assert entries.kept == []


@pytest.mark.parametrize("provide_evidence", [by_webhook, by_another_replica, by_journal])
@pytest.mark.parametrize(("command", "state"), [(Cancel(), State.CANCELLED), (Abandon(), State.FAILED)])
@pytest.mark.parametrize("restarted", [False, True])
async def test_late_evidence_for_an_ended_run_stops_its_execution_and_reports_its_result(
    bench: Bench, command: RunCommand, state: State, provide_evidence: ProvideEvidence, restarted: bool
):
    run = await in_doubt(bench)
    await bench.apply_command(run.run_id, command, "client/ops")
    bench.clock.forward(3600)
    if restarted:
        del bench.crews
        await bench.abandon()
    await provide_evidence(bench, run)
    bench.api.default_status = Succeeded("paid for")
    await bench.round(bench.late_results)
    ended = await bench.now(run)
    assert (bench.api.stopped, bench.api.polls) == (["k-1"], ["k-1"])
    assert (ended.state, ended.kickoff_id, ended.due_at) == (state, "k-1", None)
    assert await bench.events(run) == [f"run.{state}", "run.late_result"]
    assert await bench.round(bench.late_results) == []


async def test_the_response_to_a_post_whose_run_was_cancelled_meanwhile_stops_the_execution(bench: Bench):
    """Another replica had taken over the run, and an operator had cancelled it."""
    run = await bench.accepted()
    other = await another(bench)

    async def taken_over(_: Any) -> None:
        await other.store.cluster.expire_processes(bench.clock(), -1.0)
        await other.store.cluster.join(bench.clock())
        await other.round(other.recover)
        await other.apply_command(run.run_id, Cancel(), "client/ops")

    bench.api.meanwhile, bench.api.kickoff_responses = taken_over, [Started("k-late")]
    with capture_logs() as logs:
        await bench.round(bench.kickoff)
    assert "late_execution_found" in [line["event"] for line in logs]
    await other.round(other.late_results)
    assert (bench.api.stopped, (await bench.now(run)).state) == (["k-late"], State.CANCELLED)


async def test_a_webhook_names_the_execution_that_a_late_ambiguous_response_does_not(bench: Bench):
    run = await bench.accepted()
    other = await another(bench)

    async def taken_over(_: Any) -> None:
        await webhook(bench, run, {"kickoff_id": "k-1"})
        await other.store.cluster.expire_processes(bench.clock(), -1.0)
        await other.store.cluster.join(bench.clock())
        await other.round(other.recover)

    bench.api.meanwhile, bench.api.kickoff_responses = taken_over, [RESET]
    await bench.round(bench.kickoff)
    await other.round(other.inbox)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.RUNNING, "k-1")


async def test_evidence_stored_for_a_dead_process_reaches_a_run_that_was_cancelled_since(bench: Bench):
    run = await bench.left_starting()
    other = await another(bench)
    await webhook(other, run, {"kickoff_id": "k-1"})
    await bench.round(bench.recover)
    await bench.apply_command(run.run_id, Cancel(), "client/ops")
    assert len(await other.round(other.inbox)) == 1
    await bench.round(bench.late_results)
    assert bench.api.stopped == ["k-1"]


async def test_evidence_for_a_refused_run_stops_and_reports_its_execution(bench: Bench):
    """The API refused the kickoff and started an execution nevertheless."""
    bench.api.kickoff_responses = [Refused("HTTP 400")]
    run = await bench.started()
    await webhook(bench, run, {"kickoff_id": "k-1"})
    bench.api.default_status = Failed("stopped")
    await bench.round(bench.late_results)
    assert (bench.api.stopped, await bench.events(run)) == (["k-1"], ["run.failed", "run.late_result"])


async def test_the_execution_of_a_failed_run_is_neither_stopped_nor_polled(bench: Bench):
    run = await bench.started()
    bench.api.default_status = Failed("by itself")
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert ((await bench.now(run)).state, await bench.round(bench.late_results)) == (State.FAILED, [])
    await webhook(bench, run, {"kickoff_id": "another"})
    assert await bench.round(bench.late_results) == []


# Adopting an execution --------------------------------------------------------------------------------------------


async def minutes(bench: Bench, count: int) -> None:
    for _ in range(count):
        for _ in range(12):
            bench.clock.forward(5.0)
            await bench.round(bench.recover)
            await bench.round(bench.poll)
            await bench.round(bench.in_doubt)


async def test_an_id_that_the_api_does_not_know_is_not_adopted(bench: Bench):
    """A wrong id turned a successful run into failed/lost permanently."""
    run = await in_doubt(bench)
    bench.api.status_responses = [NotFound()]
    with pytest.raises(RequestRefused) as refused:
        await bench.apply_command(run.run_id, Adopt("wrong"), "client/ops")
    assert (refused.value.code, refused.value.field) == ("unknown_execution", "kickoff_id")
    assert ((await bench.now(run)).state, bench.api.polls) == (State.IN_DOUBT, ["wrong"])
    adopted = await bench.apply_command(run.run_id, Adopt("right"), "client/ops")
    assert (adopted.state, adopted.kickoff_id, adopted.unverified) == (State.RUNNING, "right", False)


@pytest.mark.parametrize("response", [NoResponse("HTTP 500"), CrewUnavailable("HTTP 401"), Unknown("HTML")])
async def test_while_the_crew_is_unavailable_only_a_forced_id_is_adopted(bench: Bench, response: StatusResponse):
    run = await in_doubt(bench)
    bench.api.status_responses = [response, response]
    with pytest.raises(CrewUnreachable):
        await bench.apply_command(run.run_id, Adopt("k-1"), "client/ops")
    assert (await bench.now(run)).state is State.IN_DOUBT
    assert (await bench.apply_command(run.run_id, Adopt("k-1", force=True), "client/ops")).unverified


async def test_a_hanging_crew_does_not_delay_the_operator(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    run = await in_doubt(bench)
    monkeypatch.setattr(commands, "POLL_TIMEOUT", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.api, "acquire", hang)
    with pytest.raises(CrewUnreachable):
        await bench.apply_command(run.run_id, Adopt("k-1"), "client/ops")


async def test_a_wrong_forced_id_can_be_corrected_while_it_is_polled(bench: Bench):
    run = await in_doubt(bench)
    bench.api.default_status = NotFound()
    await bench.apply_command(run.run_id, Adopt("wrong", force=True), "client/ops")
    bench.clock.forward(6)
    await bench.round(bench.recover)
    bench.clock.forward(6)
    await bench.round(bench.poll)
    bench.api.default_status = Succeeded("paid for")
    corrected = await bench.apply_command(run.run_id, Adopt("right"), "client/ops")
    assert (corrected.kickoff_id, corrected.unverified, corrected.owner) == ("right", False, None)
    await minutes(bench, 1)
    ended = await bench.now(run)
    assert (ended.state, ended.kickoff_id, ended.outcome.result) == (State.SUCCEEDED, "right", "paid for")


async def test_a_wrong_forced_id_never_makes_the_run_lost(bench: Bench):
    run = await in_doubt(bench)
    bench.api.default_status = NotFound()
    await bench.apply_command(run.run_id, Adopt("wrong", force=True), "client/ops")
    with capture_logs() as logs:
        await minutes(bench, 20)
    held = await bench.now(run)
    assert (held.state, held.kickoff_id, held.due_at) == (State.IN_DOUBT, None, None)
    assert [line["kickoff_id"] for line in logs if line["event"] == "adopted_execution_unknown"] == ["wrong"]
    assert await bench.events(run) == ["run.in_doubt"]
    bench.api.default_status = Succeeded("paid for")
    await bench.apply_command(run.run_id, Adopt("right"), "client/ops")
    await minutes(bench, 1)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_a_poll_of_a_wrong_id_in_flight_does_not_decide_about_the_right_one(bench: Bench):
    run = await in_doubt(bench)
    other = await another(bench)
    bench.api.status_responses = [NotFound()]
    await bench.apply_command(run.run_id, Adopt("wrong", force=True), "client/ops")
    await bench.round(bench.recover)
    bench.clock.forward(6)
    [tracked] = await bench.poll.claim(1)
    await other.apply_command(run.run_id, Adopt("right"), "client/ops")
    bench.api.status_responses = [Failed("of another run")]
    await bench.poll.handle(tracked)
    assert ((await bench.now(run)).state, run.run_id in bench.crew.tracker) == (State.RUNNING, False)


async def test_an_id_that_was_seen_running_stays(bench: Bench):
    run = await in_doubt(bench)
    bench.api.status_responses = [NotFound(), Pending()]
    await bench.apply_command(run.run_id, Adopt("k-1", force=True), "client/ops")
    await bench.round(bench.recover)
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert not (await bench.now(run)).unverified
    with pytest.raises(RequestRefused, match="not in_doubt"):
        await bench.apply_command(run.run_id, Adopt("k-2"), "client/ops")


# The result in a crew webhook ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("human_input", [False, True])
async def test_a_forged_result_is_not_accepted_at_the_first_not_found(bench: Bench, human_input: bool):
    """The holder of the URL sent a result right after the kickoff, before the API knew the execution."""
    with_policy(bench, human_input=human_input)
    run = await bench.started()
    await webhook(bench, run, {"kickoff_id": "execution-1", "result": "forged"}, kind=Kind.CREW)
    bench.api.status_responses = [NotFound()] * 4
    bench.api.default_status = Succeeded("true")
    for _ in range(4):
        await bench.round(bench.poll)
        bench.clock.forward(6)
    assert (await bench.now(run)).state is not State.SUCCEEDED
    await minutes(bench, 3)
    assert (await bench.now(run)).outcome.result == "true"


@pytest.mark.parametrize("human_input", [False, True])
async def test_the_result_of_a_webhook_is_accepted_after_five_polls_and_a_minute(bench: Bench, human_input: bool):
    with_policy(bench, human_input=human_input)
    run = await bench.started()
    await webhook(bench, run, {"kickoff_id": "execution-1", "output": {"a": 1}}, kind=Kind.CREW)
    bench.api.default_status = NotFound()
    for _ in range(10):
        await bench.round(bench.poll)
        bench.clock.forward(5.9)
    assert (await bench.now(run)).state is not State.SUCCEEDED
    await minutes(bench, 10)
    ended = await bench.now(run)
    assert (ended.state, ended.outcome.result_json) == (State.SUCCEEDED, {"a": 1})


async def test_the_result_of_a_webhook_that_the_status_contradicts_is_logged(bench: Bench):
    run = await bench.started()
    await webhook(bench, run, {"kickoff_id": "execution-1", "result": "done"}, kind=Kind.CREW)
    bench.api.default_status = Failed("no")
    with capture_logs() as logs:
        await bench.round(bench.poll)
    assert "webhook_result_discarded" in [line["event"] for line in logs]


# Runs of a removed crew ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.ACCEPTED, State.STARTING, State.IN_DOUBT, State.RUNNING])
async def test_a_run_of_a_removed_crew_can_be_cancelled(bench: Bench, state: State):
    make: dict[State, Callable[[], Awaitable[Run]]] = {
        State.ACCEPTED: bench.accepted, State.STARTING: bench.left_starting, State.RUNNING: bench.left_running,
        State.IN_DOUBT: lambda: in_doubt(bench),
    }  # fmt: skip
    run = await make[state]()
    assert run.state is state
    bench.crews = {"other": bench.crew}
    with capture_logs() as logs:
        cancelled = await bench.apply_command(run.run_id, Cancel(), "client/ops")
    assert (cancelled.state, await bench.events(run)) == (State.CANCELLED, ["run.cancelled"])
    assert ("execution_not_stopped" in [line["event"] for line in logs]) is (state is State.RUNNING)
    assert (await bench.apply_command(run.run_id, Cancel(), "client/ops")).state is State.CANCELLED


@pytest.mark.parametrize("command", [Retry(), Adopt("k-1"), Resume(approve=True)])
async def test_commands_that_call_the_crew_api_are_refused_for_a_removed_crew(bench: Bench, command: RunCommand):
    run = await in_doubt(bench)
    bench.crews = {"other": bench.crew}
    with pytest.raises(RequestRefused, match="research is not configured") as refused:
        await bench.apply_command(run.run_id, command, "client/ops")
    assert refused.value.code == "unknown_crew"
