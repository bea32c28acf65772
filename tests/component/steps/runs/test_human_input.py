"""Human input: each question is reported once, answered at most once, and tracked despite unreliable webhooks."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.adapters.store.queries import inbox
from bridge.core.crew import webhook_tokens
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    NotFound,
    NotStarted,
    Running,
    StatusResponse,
    Succeeded,
    WaitingForHuman,
    read_resume,
)
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import RequestRefused
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent, QuestionStage
from bridge.core.human_input.rules import CONFIRM_WITHIN
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Run, State
from bridge.ports.inbound import RunKey
from tests import crew_events
from tests.component.steps.conftest import KEY, Bench, with_policy
from tests.fakes import NOW

TASK = "9d6d6a0e-1c6b-4f0a-8a34-2f5e7f1c4b90"
YES = Resume(approve=True)


async def webhook(bench: Bench, run: Run, kind: Kind, **body: Any) -> None:
    async def read() -> Any:
        return body

    assert await bench.webhook(webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, 1)), kind, read)


async def ask(bench: Bench, run: Run, task_id: str = TASK, output: str = "Two turbines. Approve?") -> None:
    await webhook(bench, run, Kind.HUMAN, kickoff_id="execution-1", task_id=task_id, task_output=output)


async def waiting(bench: Bench) -> Run:
    run = await bench.started()
    await ask(bench, run)
    return await bench.now(run)


async def answered(bench: Bench, run: Run, command: Resume = YES) -> Run:
    await bench.apply_command(run.run_id, command, "client")
    await bench.round(bench.human_input)
    return await bench.now(run)


async def poll(bench: Bench, *responses: StatusResponse) -> None:
    """Make the next polls when they are due, with these responses."""
    for response in responses:
        due = bench.crew.tracker.queue.next_due()
        assert due is not None
        bench.clock.moment = max(bench.clock(), due)
        bench.api.status_responses = [response]
        await bench.round(bench.poll)


async def event_ids(bench: Bench, run: Run) -> list[str]:
    """The ids of the run's events, each once, without the run id."""
    deliveries = await bench.store.queries.deliveries_for_run(run.run_id)
    return list(dict.fromkeys(one.event.event_id.removeprefix(f"{run.run_id}-") for one in deliveries))


async def data(bench: Bench, run: Run, type_: str) -> dict[str, Any]:
    for one in await bench.store.queries.deliveries_for_run(run.run_id):
        if one.event.type == type_:
            [event] = await bench.store.queries.load_events([one.event.event_id])
            found: dict[str, Any] = json.loads(event.body)["data"]
            return found
    raise AssertionError(type_)


async def refused(bench: Bench, target: Any, command: Resume) -> str:
    with pytest.raises(RequestRefused) as caught:
        await bench.apply_command(target, command, "client")
    return caught.value.code


# Questions --------------------------------------------------------------------------------------------------------


async def test_a_question_is_reported_with_its_content(bench: Bench):
    run = await waiting(bench)
    assert (run.state, await event_ids(bench, run)) == (State.WAITING_FOR_HUMAN, ["waiting_for_human"])
    event = await data(bench, run, "run.waiting_for_human")
    assert event["state"] == "waiting_for_human"
    assert event["question"]["task_id"] == TASK
    assert event["question"]["output"] == "Two turbines. Approve?"


async def test_a_repeated_question_is_reported_once_even_after_its_answer(bench: Bench):
    run = await waiting(bench)
    await ask(bench, run)
    await answered(bench, run)
    await ask(bench, run)
    assert ((await bench.now(run)).state, await event_ids(bench, run)) == (State.RUNNING, ["waiting_for_human"])


async def test_a_question_that_the_status_repeats_is_reported_once(bench: Bench):
    run = await waiting(with_policy(bench, human_input=True))
    await poll(bench, NotFound(), WaitingForHuman(), NotFound(), WaitingForHuman())
    assert await event_ids(bench, run) == ["waiting_for_human"]


async def test_the_next_question_is_another_event(bench: Bench):
    run = await waiting(bench)
    await answered(bench, run)
    await ask(bench, run, "another-task")
    assert await event_ids(bench, run) == ["waiting_for_human", "waiting_for_human-2"]


async def test_a_late_old_question_does_not_replace_a_newer_one(bench: Bench):
    run = await waiting(bench)
    await answered(bench, run)
    await ask(bench, run, "another-task")
    await ask(bench, run)
    question = (await bench.now(run)).human_input.question
    assert question is not None
    assert question.content.task_id == "another-task"


async def test_a_question_known_only_from_the_status_is_reported_without_content(bench: Bench):
    run = await bench.started()
    await poll(bench, WaitingForHuman())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN
    assert (await data(bench, run, "run.waiting_for_human"))["question"]["output"] is None


async def test_its_later_webhook_adds_the_content(bench: Bench):
    run = await bench.started()
    await poll(bench, WaitingForHuman())
    await ask(bench, run)
    question = (await bench.now(run)).human_input.question
    assert question is not None
    assert (question.number, question.content.task_id, await event_ids(bench, run)) == (1, TASK, ["waiting_for_human"])


async def test_with_webhooks_the_status_must_report_a_question_twice(bench: Bench):
    run = await with_policy(bench, questions_announced=True).started()
    await poll(bench, WaitingForHuman())
    assert (await bench.now(run)).state is State.RUNNING
    await poll(bench, WaitingForHuman())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_not_found_after_a_seen_execution_means_waiting_where_humans_are_asked(bench: Bench):
    run = await with_policy(bench, human_input=True).started()
    await poll(bench, NotFound())
    assert (await bench.now(run)).state is State.RUNNING  # too recent to be known
    await poll(bench, Running(), NotFound())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_a_crew_that_is_not_configured_for_human_input_is_not_lost_while_it_waits(bench: Bench):
    run = await waiting(bench)
    for _ in range(8):
        await poll(bench, NotFound())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_the_deadline_of_the_run_applies_while_it_waits(bench: Bench):
    run = await waiting(bench)
    while not (await bench.now(run)).final:
        await poll(bench, NotFound())
    assert (await bench.now(run)).state is State.TIMED_OUT
    assert bench.clock() == NOW + 600
    assert await refused(bench, run.run_id, YES) == "not_waiting"


async def test_a_deadline_for_human_input_extends_that_of_the_run(bench: Bench):
    run = await waiting(with_policy(bench, human_deadline=5000.0))
    while bench.clock() < NOW + 4000:
        await poll(bench, NotFound())
    await answered(bench, run)
    while not (await bench.now(run)).final:
        await poll(bench, Running())
    assert bench.clock() == pytest.approx(NOW + 4600, abs=80)


async def test_a_question_gives_a_run_in_doubt_its_execution(bench: Bench):
    bench.api.kickoff_responses = [InDoubt("reset")]
    run = await bench.started()
    await ask(bench, run)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.WAITING_FOR_HUMAN, "execution-1")


async def test_a_question_before_the_kickoff_response_is_kept(bench: Bench):
    run = await bench.accepted()

    async def meanwhile(_: Any) -> None:
        await ask(bench, run)

    bench.api.meanwhile = meanwhile
    await bench.round(bench.kickoff)
    await bench.round(bench.inbox)
    assert await event_ids(bench, run) == ["waiting_for_human"]
    assert await bench.round(bench.inbox) == []


# Answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_is_sent_in_both_spellings_with_all_webhooks(bench: Bench):
    run = await answered(bench, await waiting(bench))
    [body] = bench.api.resumes
    for name in ("executionId", "execution_id"):
        assert body[name] == "execution-1"
    for name in ("taskId", "task_id"):
        assert body[name] == TASK
    for name in ("humanFeedback", "human_feedback"):
        assert body[name] == "Approved."
    for name in ("isApprove", "is_approve"):
        assert body[name] is True
    kickoff = bench.api.bodies[0]
    for name in ("crewWebhookUrl", "taskWebhookUrl", "humanInputWebhookUrl", "webhooks"):
        assert body[name] == kickoff[name]
    assert (run.state, run.human_input.aliases) == (State.RUNNING, ("alias-1",))


async def test_an_approval_is_sent_without_its_remark(bench: Bench):
    """The crew API would take the remark for instructions, and ask again."""
    await answered(bench, await waiting(bench), Resume("Approved, but mind the budget", approve=True))
    assert bench.api.resumes[0]["humanFeedback"] == "Approved."


async def test_instructions_are_sent_unchanged(bench: Bench):
    await answered(bench, await waiting(bench), Resume("  Three turbines. ", approve=False))
    assert (bench.api.resumes[0]["humanFeedback"], bench.api.resumes[0]["isApprove"]) == ("Three turbines.", False)


async def test_the_second_answer_names_the_first_execution_and_the_latest_task(bench: Bench):
    run = await answered(bench, await waiting(bench))
    await ask(bench, run, "another-task")
    await answered(bench, run)
    assert [(body["executionId"], body["taskId"]) for body in bench.api.resumes] == [
        ("execution-1", TASK),
        ("execution-1", "another-task"),
    ]


@pytest.mark.parametrize("command", [YES, Resume("No."), Resume("No.", key="k")])
async def test_a_second_answer_is_refused_and_never_sent(bench: Bench, command: Resume):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")
    assert await refused(bench, run.run_id, command) == "not_waiting"
    await bench.round(bench.human_input)
    assert await refused(bench, run.run_id, command) == "not_waiting"
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1


async def test_of_three_concurrent_answers_one_is_sent(bench: Bench):
    run = await waiting(bench)
    results = await asyncio.gather(
        *(bench.apply_command(run.run_id, Resume(f"Answer {n}"), "client") for n in range(3)), return_exceptions=True
    )
    await bench.round(bench.human_input)
    assert [getattr(result, "code", None) for result in results].count("not_waiting") == 2
    assert len(bench.api.resumes) == 1


@pytest.mark.parametrize("again", [Resume("Yes.", key="m-1"), Resume("Yes.", key="m-1", redelivered=True)])
async def test_a_redelivered_answer_is_accepted_even_when_the_next_question_is_open(bench: Bench, again: Resume):
    """A broker redelivers unacked messages; such a message must neither be refused nor answer another question."""
    run = await answered(bench, await waiting(bench), Resume("Yes.", key="m-1"))
    await bench.apply_command(run.run_id, again, "queue")
    await ask(bench, run, "another-task")
    await bench.apply_command(run.run_id, again, "queue")
    assert (await bench.now(run)).human_input.question.stage is QuestionStage.OPEN  # type: ignore[union-attr]
    assert len(bench.api.resumes) == 1


async def test_a_redelivered_message_without_a_key_is_identified_by_its_content(bench: Bench):
    run = await answered(bench, await waiting(bench), Resume("Yes."))
    await bench.apply_command(run.run_id, Resume("Yes.", redelivered=True), "queue")
    assert await refused(bench, run.run_id, Resume("No.", redelivered=True)) == "not_waiting"


async def test_an_answer_to_another_question_is_refused(bench: Bench):
    run = await waiting(bench)
    assert await refused(bench, run.run_id, Resume("Yes.", task_id="an-old-task")) == "not_waiting"


async def test_without_a_task_id_from_the_status_the_answer_needs_one(bench: Bench):
    run = await bench.started()
    await poll(bench, WaitingForHuman())
    assert await refused(bench, run.run_id, YES) == "invalid_request"
    await answered(bench, run, Resume(approve=True, task_id="from-the-dashboard"))
    assert bench.api.resumes[0]["taskId"] == "from-the-dashboard"


@pytest.mark.parametrize("command", [Resume(), Resume("  ", approve=False)])
async def test_an_empty_answer_is_refused(bench: Bench, command: Resume):
    run = await waiting(bench)
    assert await refused(bench, run.run_id, command) == "invalid_request"


async def test_a_run_is_found_by_the_key_of_its_request(bench: Bench):
    run = await bench.started(idempotency_key="order-1")
    await ask(bench, run)
    await bench.apply_command(RunKey("queue", "research", "order-1"), YES, "queue")
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1
    assert await refused(bench, RunKey("queue", "research", "order-2"), YES) == "unknown_run"
    assert await refused(bench, RunKey("another", "research", "order-1"), YES) == "unknown_run"


# Outcomes of answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", [NotStarted("refused"), CrewUnavailable("HTTP 401")])
async def test_an_unsent_answer_is_sent_later(bench: Bench, response: Any):
    bench.api.resume_responses = [response]
    run = await answered(bench, await waiting(bench))
    assert run.state is State.WAITING_FOR_HUMAN
    assert await bench.round(bench.human_input) == []
    bench.clock.forward(400)
    bench.crew.breaker.on_probe(ok=True, now=bench.clock())
    await bench.round(bench.human_input)
    assert ((await bench.now(run)).state, len(bench.api.resumes)) == (State.RUNNING, 2)


@pytest.mark.parametrize("response", [InDoubt("reset"), InDoubt("HTTP 500")])
async def test_an_answer_in_doubt_is_never_sent_again_and_reported_as_unconfirmed_once(bench: Bench, response: Any):
    bench.api.resume_responses = [response]
    run = await answered(bench, await waiting(bench))
    while bench.clock() < NOW + 3 * CONFIRM_WITHIN:
        await poll(bench, NotFound())
        await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1
    assert await event_ids(bench, run) == ["waiting_for_human", "resume_unconfirmed"]
    assert (await data(bench, run, "run.resume_unconfirmed"))["question"]["task_id"] == TASK


@pytest.mark.parametrize("code", [404, 422])
async def test_a_refused_answer_is_reported_at_once_and_says_nothing_about_the_crew(bench: Bench, code: int):
    """The deployment of a flow has no `/resume`; elsewhere, a 404 means that the crew's URL is wrong."""
    bench.api.resume_responses = [read_resume(Reply(code, b'{"detail": "Not Found"}'))]
    run = await waiting(bench)
    bench.clock.forward(1)
    await answered(bench, run)
    assert await event_ids(bench, run) == ["waiting_for_human", "resume_unconfirmed"]
    assert (await data(bench, run, "run.resume_unconfirmed"))["question"]["problem"] == f"HTTP {code}: Not Found"
    assert bench.crew.problem(bench.clock()) is None


async def test_a_status_that_shows_work_confirms_the_answer(bench: Bench):
    run = await answered(bench, await waiting(bench))
    bench.clock.forward(5)
    await poll(bench, Running())
    bench.clock.forward(CONFIRM_WITHIN)
    await poll(bench, NotFound())
    assert await event_ids(bench, run) == ["waiting_for_human"]


@pytest.mark.parametrize("kind", [Kind.TASK, Kind.CREW])
async def test_a_webhook_confirms_the_answer(bench: Bench, kind: Kind):
    run = await answered(bench, await waiting(bench))
    await webhook(bench, run, kind, kickoff_id="alias-1", name="draft")
    bench.clock.forward(CONFIRM_WITHIN)
    await poll(bench, NotFound())
    assert await event_ids(bench, run) == ["waiting_for_human"]


async def test_a_finished_task_and_the_answer_that_it_confirms_are_one_write(bench: Bench):
    """The second write was always stale, and the run was read and written again."""
    run = await answered(bench, await waiting(bench))
    spy = bench.spy()
    await webhook(bench, run, Kind.TASK, kickoff_id="alias-1", name="draft")
    assert spy.calls.count("apply") == 1
    now = await bench.now(run)
    assert (now.human_input.stage, [task.name for task in now.tasks]) == (QuestionStage.CONFIRMED, ["draft"])


async def test_a_question_during_the_submission_of_the_previous_answer_is_kept(bench: Bench):
    run = await waiting(bench)

    async def meanwhile(_: Any) -> None:
        await ask(bench, run, "another-task")

    bench.api.meanwhile = meanwhile
    now = await answered(bench, run)
    assert (now.state, now.human_input.aliases) == (State.WAITING_FOR_HUMAN, ("alias-1",))
    assert now.human_input.question is not None
    assert (now.human_input.question.number, now.human_input.question.stage) == (2, QuestionStage.OPEN)


async def test_an_answer_is_not_sent_again_after_its_process_died_during_the_request(bench: Bench):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")

    async def die(_: Any) -> None:
        raise KeyboardInterrupt

    bench.api.meanwhile = die
    with pytest.raises(KeyboardInterrupt):
        await bench.round(bench.human_input)
    await bench.abandon()
    bench.crew.tracker.queue.drop(run.run_id)
    await bench.round(bench.recover)
    assert await bench.round(bench.human_input) == []
    while bench.clock() < NOW + 3 * CONFIRM_WITHIN:
        await poll(bench, NotFound())
    assert (len(bench.api.resumes), await event_ids(bench, run)) == (1, ["waiting_for_human", "resume_unconfirmed"])


async def test_an_accepted_answer_survives_the_process(bench: Bench):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")
    await bench.abandon()
    bench.crew.tracker.queue.drop(run.run_id)
    await bench.round(bench.recover)
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1
    await poll(bench, Succeeded("done"))
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_a_run_is_tracked_as_soon_as_its_answer_is_sent(bench: Bench):
    """The run is polled whatever becomes of the record of the answer."""
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")
    bench.crew.tracker.queue.drop(run.run_id)  # as in a process that has just started
    tracked_runs = []

    async def meanwhile(_: Any) -> None:
        tracked_runs.append(run.run_id in bench.crew.tracker.queue)

    bench.api.meanwhile = meanwhile
    await bench.round(bench.human_input)
    assert tracked_runs == [True]


@pytest.mark.parametrize("paused", [False, True])
async def test_a_question_before_the_previous_answer_is_sent_is_tracked_to_the_end(bench: Bench, paused: bool):
    """After a restart, the claimed answer waits for its permit; no process polled the run any longer."""
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")
    await bench.abandon()
    bench.crew.tracker.forget_everything()
    [claimed] = await bench.human_input.claim(1)
    await ask(bench, run, "another-task")
    if paused:
        bench.crew.breaker.trip("HTTP 401", bench.clock())
    await bench.human_input.handle(claimed)
    bench.crew.breaker.on_probe(ok=True, now=bench.clock())
    await poll(bench, Succeeded("done"))
    assert ((await bench.now(run)).state, bench.api.resumes) == (State.SUCCEEDED, [])


async def test_a_run_cancelled_before_its_answer_is_sent_is_not_tracked_again(bench: Bench):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")
    await bench.abandon()
    bench.crew.tracker.forget_everything()
    [claimed] = await bench.human_input.claim(1)
    await bench.apply_command(run.run_id, Cancel(), "client")
    await bench.human_input.handle(claimed)
    await bench.round(bench.poll)
    assert (len(bench.crew.tracker), bench.api.polls) == (0, [])


async def test_a_waiting_run_is_tracked_by_the_next_process(bench: Bench):
    run = await waiting(bench)
    await bench.abandon()
    bench.crew.tracker.queue.drop(run.run_id)
    await bench.round(bench.recover)
    await poll(bench, NotFound())
    await answered(bench, run)
    assert len(bench.api.resumes) == 1
    await poll(bench, Succeeded("done"))
    assert sorted(await event_ids(bench, run)) == ["succeeded", "waiting_for_human"]


async def test_an_answer_is_left_to_the_worker_of_its_crew(bench: Bench):
    """A crew that did not respond occupied all slots of the shared worker."""
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "client")
    of_another = bench.steps.human_input(replace(bench.crew, name="triage"))
    assert await of_another.claim(9) == []
    assert len(await bench.human_input.claim(9)) == 1


async def test_answers_for_a_paused_crew_wait(bench: Bench):
    run = await waiting(bench)
    bench.crew.breaker.trip("HTTP 401", bench.clock())
    await answered(bench, run)
    assert bench.api.resumes == []
    bench.crew.breaker.on_probe(ok=True, now=bench.clock())
    bench.clock.forward(100)
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1


async def test_an_alias_is_polled_while_the_first_id_is_not_found(bench: Bench):
    run = await answered(bench, await waiting(bench))
    bench.clock.moment = bench.crew.tracker.queue.next_due() or bench.clock()
    bench.api.status_responses = [NotFound(), Succeeded("by the other name")]
    await bench.round(bench.poll)
    assert bench.api.polls[-2:] == ["execution-1", "alias-1"]
    assert (await bench.now(run)).outcome.result == "by the other name"


async def test_a_failure_of_an_alias_counts_only_without_other_evidence(bench: Bench):
    """Aliases were seen to fail at once although the execution continued under its first id."""
    run = await answered(bench, await waiting(bench))
    while not (await bench.now(run)).final:
        due = bench.crew.tracker.queue.next_due()
        assert due is not None
        bench.clock.moment = max(bench.clock(), due)
        bench.api.status_responses = [NotFound(), Failed("'NoneType' object is not subscriptable")]
        await bench.round(bench.poll)
    assert await event_ids(bench, run) == ["waiting_for_human", "resume_unconfirmed", "failed"]
    assert bench.clock() >= NOW + CONFIRM_WITHIN


# Answers from elsewhere ---------------------------------------------------------------------------------------------


async def test_after_an_answer_polls_are_regular_even_if_webhooks_are_reliable(bench: Bench):
    """A flow may fail at once, and its webhook may be lost."""
    bench.crew.webhook_reliability.webhook_seen = 1.0
    run = await answered(bench, await waiting(bench))
    await poll(bench, WaitingForHuman(), WaitingForHuman(), Running())
    bench.clock.forward(6)
    bench.api.status_responses = [Failed("bad customer id 17")]
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.FAILED


async def test_a_flow_that_continues_is_polled_at_once(bench: Bench):
    """The question was answered elsewhere; until a poll shows it, polls are rare."""
    run = await waiting(with_policy(bench, is_flow=True))
    await poll(bench, WaitingForHuman())
    bench.clock.forward(11)
    assert await bench.round(bench.poll) == []
    resumed = crew_events.flow_with_pause("execution-1")[2]
    await webhook(bench, run, Kind.STREAM, events=[resumed])
    bench.api.status_responses = [Running()]
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.RUNNING


async def test_a_flow_that_continues_confirms_the_answer(bench: Bench):
    run = await answered(bench, await flow(bench))
    await webhook(bench, run, Kind.STREAM, events=[crew_events.flow_with_pause("execution-1")[2]])
    question = (await bench.now(run)).human_input.question
    assert question is not None
    assert question.stage is QuestionStage.CONFIRMED


async def test_a_question_answered_in_the_dashboard_is_closed(bench: Bench):
    run = await waiting(bench)
    bench.clock.forward(20)
    await poll(bench, Running())
    assert (await bench.now(run)).state is State.RUNNING
    assert await refused(bench, run.run_id, YES) == "not_waiting"
    assert bench.api.resumes == []


async def test_a_status_that_lags_behind_the_question_does_not_close_it(bench: Bench):
    run = await waiting(bench)
    bench.clock.forward(2)
    await poll(bench, Running())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_a_run_that_ends_while_it_waits_has_ended(bench: Bench):
    run = await waiting(bench)
    bench.clock.forward(1)
    await poll(bench, Succeeded("without us"))
    assert ((await bench.now(run)).state, await event_ids(bench, run)) == (
        State.SUCCEEDED,
        ["waiting_for_human", "succeeded"],
    )


async def test_without_an_answer_in_time_the_default_is_sent(bench: Bench):
    run = await waiting(with_policy(bench, human_deadline=100.0, human_default="Go on."))
    while bench.clock() < NOW + 100:
        assert bench.api.resumes == []
        await poll(bench, NotFound())
        await bench.round(bench.human_input)
    assert bench.clock() == NOW + 100
    assert bench.api.resumes[0]["humanFeedback"] == "Go on."
    assert await refused(bench, run.run_id, YES) == "not_waiting"
    assert await event_ids(bench, run) == ["waiting_for_human"]


# Flows ------------------------------------------------------------------------------------------------------------

CALLBACK = "https://amp.example.com/respond?token=secret-of-the-callback"


def a_question(kickoff_id: str = "execution-1", **changes: Any) -> FlowQuestion:
    content = {
        "task_id": "q-1",
        "output": "A is cheapest.",
        "options": ("approved", "rejected"),
        "callback_url": CALLBACK,
    }
    return FlowQuestion(kickoff_id, QuestionContent(**content | changes))


async def flow(bench: Bench) -> Run:
    run = await with_policy(bench, is_flow=True).started()
    await bench.flow_question(a_question())
    return run


async def test_a_flow_question_has_its_options_and_no_callback_url(bench: Bench):
    run = await flow(bench)
    deliveries = await bench.store.queries.deliveries_for_run(run.run_id)
    events = await bench.store.queries.load_events([one.event.event_id for one in deliveries])
    assert "secret-of-the-callback" not in str([event.body for event in events]) + repr(await bench.now(run))
    assert (await data(bench, run, "run.waiting_for_human"))["question"]["options"] == ["approved", "rejected"]


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        (Resume(approve=True), "approved"),
        (Resume("REJECTED"), "rejected"),
        (Resume("Take A, please.", approve=True), "approved"),
        (Resume("Ask once more."), "Ask once more."),
    ],
)
async def test_a_flow_receives_the_spelling_of_its_own_option(bench: Bench, command: Resume, sent: str):
    await answered(bench, await flow(bench), command)
    assert (bench.api.flow_responses, bench.api.resumes) == ([(CALLBACK, sent)], [])


async def test_a_flow_question_before_the_kickoff_response_is_kept(bench: Bench):
    run = await with_policy(bench, is_flow=True).accepted()
    await bench.flow_question(a_question())
    await bench.round(bench.kickoff)
    assert await bench.round(bench.inbox) == [], "the run is looked up once a second"
    await bench.rounds(bench.inbox, seconds=1)
    assert await event_ids(bench, run) == ["waiting_for_human"]


async def test_a_flow_question_names_the_state_id_that_its_request_has_set(bench: Bench):
    own = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
    await with_policy(bench, is_flow=True).started(inputs={"topic": "another"})
    run = await bench.started(inputs={"topic": "tides", "id": own})
    await bench.flow_question(a_question(own))
    await answered(bench, run, Resume(approve=True))
    assert bench.api.flow_responses == [(CALLBACK, "approved")]
    bench.api.default_status = Succeeded("bought")
    bench.clock.forward(60)
    await bench.round(bench.poll)
    await bench.flow_question(a_question(own))
    assert await event_ids(bench, run) == ["waiting_for_human", "succeeded"]


async def test_a_question_without_a_run_is_dropped_after_an_hour(bench: Bench):
    await bench.flow_question(a_question())
    await bench.rounds(bench.inbox, seconds=3)
    bench.clock.forward(3600)
    with capture_logs() as logs:
        await bench.round(bench.inbox)
    assert [entry["event"] for entry in logs] == ["human_input_unmatched"]
    bench.clock.forward(3600)
    assert await bench.round(bench.inbox) == []


async def test_questions_without_a_run_are_discarded_at_the_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox, "MAX_FLOW_QUESTIONS", 2)
    with capture_logs() as logs:
        for number in (1, 2, 3):
            await bench.flow_question(a_question(f"unknown-{number}"))
    assert [entry["event"] for entry in logs] == ["crew_webhook_discarded"]
    bench.clock.forward(1)
    assert {entry.kickoff_id for entry in await bench.round(bench.inbox)} == {"unknown-1", "unknown-2"}


async def test_a_repeated_question_without_a_run_replaces_the_first(bench: Bench):
    for output in ("first", "second"):
        await bench.flow_question(a_question(output=output))
    bench.clock.forward(1)
    assert [entry.content["output"] for entry in await bench.round(bench.inbox)] == ["second"]


async def test_a_question_that_arrives_while_the_one_before_is_handled_is_handled_next(bench: Bench):
    """Another client answered the first one, and its deployment sends each question once."""
    await bench.receive.flow_question("research", a_question(output="first"))
    [first] = await (step := bench.inbox).claim(1)
    await bench.receive.flow_question("research", a_question(output="second"))
    await bench.started()
    await step.handle(first)
    assert [entry.content["output"] for entry in await bench.round(step)] == ["second"]


async def test_a_flow_question_without_a_callback_url_cannot_be_answered_here(bench: Bench):
    run = await with_policy(bench, is_flow=True).started()
    await poll(bench, WaitingForHuman())
    assert await refused(bench, run.run_id, YES) == "not_waiting"
