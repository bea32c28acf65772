"""Questions to humans: told once each, answered at most once each, and followed through whatever webhooks do."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    NotFound,
    NotStarted,
    Refused,
    Running,
    StatusResponse,
    Succeeded,
    WaitingForHuman,
)
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import RequestRefused, Stale
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent, QuestionStage
from bridge.core.human_input.rules import CONFIRM_WITHIN
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Run, State
from bridge.ports.inbound import RunKey
from bridge.steps import _tracker
from bridge.steps.runs.human_input import SubmitHumanInput
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
    await bench.apply_command(run.run_id, command, "somebody")
    await bench.round(bench.human_input)
    return await bench.now(run)


async def look(bench: Bench, *responses: StatusResponse) -> None:
    """Make the next looks when they are due, with these answers."""
    for answer in responses:
        due = bench.crew.tracker.queue.next_due()
        assert due is not None
        bench.clock.moment = max(bench.clock(), due)
        bench.api.status_answers = [answer]
        await bench.round(bench.poll)


async def told(bench: Bench, run: Run) -> list[str]:
    """The ids of the run's events, each once, without the run's own id."""
    deliveries = await bench.store.deliveries_for_run(run.run_id)
    return list(dict.fromkeys(one.event.event_id.removeprefix(f"{run.run_id}-") for one in deliveries))


async def data(bench: Bench, run: Run, type_: str) -> dict[str, Any]:
    for one in await bench.store.deliveries_for_run(run.run_id):
        if one.event.type == type_:
            [event] = await bench.store.load_events([one.event.event_id])
            found: dict[str, Any] = json.loads(event.body)["data"]
            return found
    raise AssertionError(type_)


async def refused(bench: Bench, wanted: Any, command: Resume) -> str:
    with pytest.raises(RequestRefused) as caught:
        await bench.apply_command(wanted, command, "somebody")
    return caught.value.code


# Questions --------------------------------------------------------------------------------------------------------


async def test_a_question_is_told_with_what_a_human_is_to_look_at(bench: Bench):
    run = await waiting(bench)
    assert (run.state, await told(bench, run)) == (State.WAITING_FOR_HUMAN, ["waiting_for_human"])
    event = await data(bench, run, "run.waiting_for_human")
    assert event["state"] == "waiting_for_human"
    assert event["question"]["task_id"] == TASK
    assert event["question"]["output"] == "Two turbines. Approve?"


async def test_a_question_that_comes_twice_or_after_its_answer_is_told_once(bench: Bench):
    run = await waiting(bench)
    await ask(bench, run)
    await answered(bench, run)
    await ask(bench, run)
    assert ((await bench.now(run)).state, await told(bench, run)) == (State.RUNNING, ["waiting_for_human"])


async def test_a_question_that_the_status_repeats_is_told_once(bench: Bench):
    run = await waiting(with_policy(bench, human_input=True))
    await look(bench, NotFound(), WaitingForHuman(), NotFound(), WaitingForHuman())
    assert await told(bench, run) == ["waiting_for_human"]


async def test_the_next_question_is_another_event(bench: Bench):
    run = await waiting(bench)
    await answered(bench, run)
    await ask(bench, run, "another-task")
    assert await told(bench, run) == ["waiting_for_human", "waiting_for_human-2"]


async def test_an_old_question_that_comes_after_a_new_one_does_not_replace_it(bench: Bench):
    run = await waiting(bench)
    await answered(bench, run)
    await ask(bench, run, "another-task")
    await ask(bench, run)
    question = (await bench.now(run)).human_input.question
    assert question is not None
    assert question.content.task_id == "another-task"


async def test_a_question_that_only_the_status_tells_is_told_without_content(bench: Bench):
    run = await bench.started()
    await look(bench, WaitingForHuman())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN
    assert (await data(bench, run, "run.waiting_for_human"))["question"]["output"] is None


async def test_its_webhook_may_still_come_and_names_it(bench: Bench):
    run = await bench.started()
    await look(bench, WaitingForHuman())
    await ask(bench, run)
    question = (await bench.now(run)).human_input.question
    assert question is not None
    assert (question.number, question.content.task_id, await told(bench, run)) == (1, TASK, ["waiting_for_human"])


async def test_where_webhooks_bring_questions_the_status_is_believed_the_second_time(bench: Bench):
    run = await with_policy(bench, questions_announced=True).started()
    await look(bench, WaitingForHuman())
    assert (await bench.now(run)).state is State.RUNNING
    await look(bench, WaitingForHuman())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_a_crew_with_humans_that_was_seen_alive_and_is_not_found_waits(bench: Bench):
    run = await with_policy(bench, human_input=True).started()
    await look(bench, NotFound())
    assert (await bench.now(run)).state is State.RUNNING  # too new to be known
    await look(bench, Running(), NotFound())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_a_crew_that_nobody_declared_to_have_humans_is_not_lost_while_it_waits(bench: Bench):
    run = await waiting(bench)
    for _ in range(8):
        await look(bench, NotFound())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_the_runs_deadline_holds_while_it_waits(bench: Bench):
    run = await waiting(bench)
    while not (await bench.now(run)).final:
        await look(bench, NotFound())
    assert (await bench.now(run)).state is State.TIMED_OUT
    assert bench.clock() == NOW + 600
    assert await refused(bench, run.run_id, YES) == "not_waiting"


async def test_where_humans_have_their_own_deadline_the_runs_stands_still_so_long(bench: Bench):
    run = await waiting(with_policy(bench, human_deadline=5000.0))
    while bench.clock() < NOW + 4000:
        await look(bench, NotFound())
    await answered(bench, run)
    while not (await bench.now(run)).final:
        await look(bench, Running())
    assert bench.clock() == pytest.approx(NOW + 4600, abs=80)


async def test_a_question_brings_a_run_in_doubt_its_execution(bench: Bench):
    bench.api.kickoff_answers = [InDoubt("reset")]
    run = await bench.started()
    await ask(bench, run)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.WAITING_FOR_HUMAN, "execution-1")


async def test_a_question_that_is_faster_than_the_kickoffs_answer_is_kept(bench: Bench):
    run = await bench.accepted()

    async def meanwhile(_: Any) -> None:
        await ask(bench, run)

    bench.api.meanwhile = meanwhile
    await bench.round(bench.kickoff)
    await bench.round(bench.pending_questions)
    assert await told(bench, run) == ["waiting_for_human"]
    assert len(bench.crew.questions) == 0


# Answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_is_carried_in_both_spellings_with_all_webhooks(bench: Bench):
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


async def test_an_approval_with_a_remark_is_sent_without_it(bench: Bench):
    """The crew API would take the remark for instructions, and ask again."""
    await answered(bench, await waiting(bench), Resume("Approved, but mind the budget", approve=True))
    assert bench.api.resumes[0]["humanFeedback"] == "Approved."


async def test_instructions_are_sent_as_they_are(bench: Bench):
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
    await bench.apply_command(run.run_id, YES, "somebody")
    assert await refused(bench, run.run_id, command) == "not_waiting"
    await bench.round(bench.human_input)
    assert await refused(bench, run.run_id, command) == "not_waiting"
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1


async def test_of_three_answers_at_once_one_is_sent(bench: Bench):
    run = await waiting(bench)
    results = await asyncio.gather(
        *(bench.apply_command(run.run_id, Resume(f"Answer {n}"), "somebody") for n in range(3)), return_exceptions=True
    )
    await bench.round(bench.human_input)
    assert [getattr(result, "code", None) for result in results].count("not_waiting") == 2
    assert len(bench.api.resumes) == 1


@pytest.mark.parametrize("again", [Resume("Yes.", key="m-1"), Resume("Yes.", key="m-1", redelivered=True)])
async def test_a_message_that_comes_again_was_taken_even_when_the_next_question_waits(bench: Bench, again: Resume):
    """A broker delivers again what was not acked; that must neither be refused nor answer another question."""
    run = await answered(bench, await waiting(bench), Resume("Yes.", key="m-1"))
    await bench.apply_command(run.run_id, again, "queue")
    await ask(bench, run, "another-task")
    await bench.apply_command(run.run_id, again, "queue")
    assert (await bench.now(run)).human_input.question.stage is QuestionStage.OPEN  # type: ignore[union-attr]
    assert len(bench.api.resumes) == 1


async def test_a_redelivered_message_without_a_key_is_known_by_its_content(bench: Bench):
    run = await answered(bench, await waiting(bench), Resume("Yes."))
    await bench.apply_command(run.run_id, Resume("Yes.", redelivered=True), "queue")
    assert await refused(bench, run.run_id, Resume("No.", redelivered=True)) == "not_waiting"


async def test_an_answer_to_another_question_is_refused(bench: Bench):
    run = await waiting(bench)
    assert await refused(bench, run.run_id, Resume("Yes.", task_id="an-old-task")) == "not_waiting"


async def test_where_the_status_told_no_name_the_answer_must(bench: Bench):
    run = await bench.started()
    await look(bench, WaitingForHuman())
    assert await refused(bench, run.run_id, YES) == "invalid_request"
    await answered(bench, run, Resume(approve=True, task_id="from-the-dashboard"))
    assert bench.api.resumes[0]["taskId"] == "from-the-dashboard"


@pytest.mark.parametrize("command", [Resume(), Resume("  ", approve=False)])
async def test_an_answer_that_says_nothing_is_refused(bench: Bench, command: Resume):
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


# What comes of an answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [NotStarted("refused"), CrewUnavailable("HTTP 401")])
async def test_what_provably_never_left_is_sent_later(bench: Bench, answer: Any):
    bench.api.resume_answers = [answer]
    run = await answered(bench, await waiting(bench))
    assert run.state is State.WAITING_FOR_HUMAN
    assert await bench.round(bench.human_input) == []
    bench.clock.forward(400)
    bench.crew.breaker.on_probe(ok=True, now=bench.clock())
    await bench.round(bench.human_input)
    assert ((await bench.now(run)).state, len(bench.api.resumes)) == (State.RUNNING, 2)


@pytest.mark.parametrize("answer", [InDoubt("reset"), InDoubt("HTTP 500")])
async def test_an_answer_in_doubt_is_never_sent_again_and_said_to_be_unconfirmed_once(bench: Bench, answer: Any):
    bench.api.resume_answers = [answer]
    run = await answered(bench, await waiting(bench))
    while bench.clock() < NOW + 3 * CONFIRM_WITHIN:
        await look(bench, NotFound())
        await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1
    assert await told(bench, run) == ["waiting_for_human", "resume_unconfirmed"]
    assert (await data(bench, run, "run.resume_unconfirmed"))["question"]["task_id"] == TASK


async def test_an_answer_that_was_refused_is_said_so_at_once(bench: Bench):
    bench.api.resume_answers = [Refused("HTTP 422: Field required")]
    run = await waiting(bench)
    bench.clock.forward(1)
    await answered(bench, run)
    assert await told(bench, run) == ["waiting_for_human", "resume_unconfirmed"]
    assert (await data(bench, run, "run.resume_unconfirmed"))["question"]["problem"] == "HTTP 422: Field required"


async def test_a_status_that_shows_work_confirms_the_answer(bench: Bench):
    run = await answered(bench, await waiting(bench))
    bench.clock.forward(5)
    await look(bench, Running())
    bench.clock.forward(CONFIRM_WITHIN)
    await look(bench, NotFound())
    assert await told(bench, run) == ["waiting_for_human"]


@pytest.mark.parametrize("kind", [Kind.TASK, Kind.CREW])
async def test_a_webhook_confirms_the_answer(bench: Bench, kind: Kind):
    run = await answered(bench, await waiting(bench))
    await webhook(bench, run, kind, kickoff_id="alias-1", name="draft")
    bench.clock.forward(CONFIRM_WITHIN)
    await look(bench, NotFound())
    assert await told(bench, run) == ["waiting_for_human"]


async def test_a_question_that_comes_while_its_forerunners_answer_is_under_way_is_kept(bench: Bench):
    run = await waiting(bench)

    async def meanwhile(_: Any) -> None:
        await ask(bench, run, "another-task")

    bench.api.meanwhile = meanwhile
    now = await answered(bench, run)
    assert (now.state, now.human_input.aliases) == (State.WAITING_FOR_HUMAN, ("alias-1",))
    assert now.human_input.question is not None
    assert (now.human_input.question.number, now.human_input.question.stage) == (2, QuestionStage.OPEN)


async def test_a_process_that_dies_with_the_answer_under_way_never_sends_it_again(bench: Bench):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "somebody")

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
        await look(bench, NotFound())
    assert (len(bench.api.resumes), await told(bench, run)) == (1, ["waiting_for_human", "resume_unconfirmed"])


async def test_an_answer_that_was_taken_survives_the_process(bench: Bench):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "somebody")
    await bench.abandon()
    bench.crew.tracker.queue.drop(run.run_id)
    await bench.round(bench.recover)
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1
    await look(bench, Succeeded("done"))
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_a_run_is_followed_from_the_moment_that_its_answer_leaves(bench: Bench):
    """Whatever becomes of the note of it, somebody looks at the run."""
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "somebody")
    bench.crew.tracker.queue.drop(run.run_id)  # as in a process that has just started
    tracked_runs = []

    async def meanwhile(_: Any) -> None:
        tracked_runs.append(run.run_id in bench.crew.tracker.queue)

    bench.api.meanwhile = meanwhile
    await bench.round(bench.human_input)
    assert tracked_runs == [True]


@pytest.mark.parametrize("paused", [False, True])
async def test_a_question_that_comes_before_its_forerunners_answer_leaves_is_followed_to_the_end(
    bench: Bench, paused: bool
):
    """After a restart the answer is claimed and waits for its turn; then nobody was left to look at the run."""
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "somebody")
    await bench.abandon()
    bench.crew.tracker.forget_everything()
    [claimed] = await bench.human_input.claim(1)
    await ask(bench, run, "another-task")
    if paused:
        bench.crew.breaker.trip("HTTP 401", bench.clock())
    with pytest.raises(Stale):
        await bench.human_input.handle(claimed)
    bench.crew.breaker.on_probe(ok=True, now=bench.clock())
    await look(bench, Succeeded("done"))
    assert ((await bench.now(run)).state, bench.api.resumes) == (State.SUCCEEDED, [])


async def test_a_run_that_was_cancelled_before_its_answer_leaves_is_not_followed_again(bench: Bench):
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "somebody")
    await bench.abandon()
    bench.crew.tracker.forget_everything()
    [claimed] = await bench.human_input.claim(1)
    await bench.apply_command(run.run_id, Cancel(), "somebody")
    with pytest.raises(Stale):
        await bench.human_input.handle(claimed)
    await bench.round(bench.poll)
    assert (len(bench.crew.tracker), bench.api.polls) == (0, [])


async def test_a_run_that_waits_is_followed_by_the_next_process(bench: Bench):
    run = await waiting(bench)
    await bench.abandon()
    bench.crew.tracker.queue.drop(run.run_id)
    await bench.round(bench.recover)
    await look(bench, NotFound())
    await answered(bench, run)
    assert len(bench.api.resumes) == 1
    await look(bench, Succeeded("done"))
    assert sorted(await told(bench, run)) == ["succeeded", "waiting_for_human"]


async def test_an_answer_is_left_to_the_worker_of_its_own_crew(bench: Bench):
    """A crew that did not answer its own had all places of the one worker that there was."""
    run = await waiting(bench)
    await bench.apply_command(run.run_id, YES, "somebody")
    of_another = SubmitHumanInput(
        replace(bench.crew, name="triage"), bench.store, bench.clock, bench.signals["deliver"]
    )
    assert await of_another.claim(9) == []
    assert len(await bench.human_input.claim(9)) == 1


async def test_a_paused_crews_answers_wait(bench: Bench):
    run = await waiting(bench)
    bench.crew.breaker.trip("HTTP 401", bench.clock())
    await answered(bench, run)
    assert bench.api.resumes == []
    bench.crew.breaker.on_probe(ok=True, now=bench.clock())
    bench.clock.forward(100)
    await bench.round(bench.human_input)
    assert len(bench.api.resumes) == 1


async def test_where_the_original_stays_unknown_the_other_name_is_looked_at(bench: Bench):
    run = await answered(bench, await waiting(bench))
    bench.clock.moment = bench.crew.tracker.queue.next_due() or bench.clock()
    bench.api.status_answers = [NotFound(), Succeeded("by the other name")]
    await bench.round(bench.poll)
    assert bench.api.polls[-2:] == ["execution-1", "alias-1"]
    assert (await bench.now(run)).outcome.result == "by the other name"


async def test_a_failure_under_the_other_name_counts_only_when_nothing_else_came(bench: Bench):
    """Such names were seen to fail at once although the execution went on under its own."""
    run = await answered(bench, await waiting(bench))
    while not (await bench.now(run)).final:
        due = bench.crew.tracker.queue.next_due()
        assert due is not None
        bench.clock.moment = max(bench.clock(), due)
        bench.api.status_answers = [NotFound(), Failed("'NoneType' object is not subscriptable")]
        await bench.round(bench.poll)
    assert await told(bench, run) == ["waiting_for_human", "resume_unconfirmed", "failed"]
    assert bench.clock() >= NOW + CONFIRM_WITHIN


# Others -----------------------------------------------------------------------------------------------------------


async def test_a_question_answered_in_the_dashboard_is_over(bench: Bench):
    run = await waiting(bench)
    bench.clock.forward(20)
    await look(bench, Running())
    assert (await bench.now(run)).state is State.RUNNING
    assert await refused(bench, run.run_id, YES) == "not_waiting"
    assert bench.api.resumes == []


async def test_a_status_that_lags_behind_the_question_does_not_close_it(bench: Bench):
    run = await waiting(bench)
    bench.clock.forward(2)
    await look(bench, Running())
    assert (await bench.now(run)).state is State.WAITING_FOR_HUMAN


async def test_a_run_that_ends_while_it_waits_is_over(bench: Bench):
    run = await waiting(bench)
    bench.clock.forward(1)
    await look(bench, Succeeded("without us"))
    assert ((await bench.now(run)).state, await told(bench, run)) == (
        State.SUCCEEDED,
        ["waiting_for_human", "succeeded"],
    )


async def test_without_an_answer_in_time_the_default_is_given(bench: Bench):
    run = await waiting(with_policy(bench, human_deadline=100.0, human_default="Go on."))
    while bench.clock() < NOW + 100:
        assert bench.api.resumes == []
        await look(bench, NotFound())
        await bench.round(bench.human_input)
    assert bench.clock() == NOW + 100
    assert bench.api.resumes[0]["humanFeedback"] == "Go on."
    assert await refused(bench, run.run_id, YES) == "not_waiting"
    assert await told(bench, run) == ["waiting_for_human"]


# Flows ------------------------------------------------------------------------------------------------------------

CALLBACK = "https://amp.example.com/respond?token=secret-of-the-callback"


def a_question(kickoff_id: str = "execution-1", **changes: Any) -> FlowQuestion:
    asked = {
        "task_id": "q-1",
        "output": "A is cheapest.",
        "options": ("approved", "rejected"),
        "callback_url": CALLBACK,
    }
    return FlowQuestion(kickoff_id, QuestionContent(**asked | changes))


async def flow(bench: Bench) -> Run:
    run = await with_policy(bench, is_flow=True).started()
    await bench.webhook.handle_flow_question("research", a_question())
    return run


async def test_a_flows_question_offers_its_options_and_tells_no_address(bench: Bench):
    run = await flow(bench)
    deliveries = await bench.store.deliveries_for_run(run.run_id)
    told = await bench.store.load_events([one.event.event_id for one in deliveries])
    assert "secret-of-the-callback" not in str([event.body for event in told]) + repr(await bench.now(run))
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
async def test_a_flow_gets_its_own_option_where_one_is_meant(bench: Bench, command: Resume, sent: str):
    await answered(bench, await flow(bench), command)
    assert (bench.api.flow_answers, bench.api.resumes) == ([(CALLBACK, sent)], [])


async def test_a_flows_question_that_is_faster_than_the_kickoffs_answer_is_kept(bench: Bench):
    run = await with_policy(bench, is_flow=True).accepted()
    await bench.webhook.handle_flow_question("research", a_question())
    await bench.round(bench.pending_questions)
    await bench.round(bench.kickoff)
    assert await bench.round(bench.pending_questions) == [], "the store is asked once a second"
    await bench.rounds(bench.pending_questions, seconds=1)
    assert await told(bench, run) == ["waiting_for_human"]
    assert bench.pending_questions.pause() == 1.0


async def test_a_question_of_an_execution_that_no_run_gets_is_dropped_after_an_hour(bench: Bench):
    await bench.webhook.handle_flow_question("research", a_question())
    await bench.rounds(bench.pending_questions, seconds=3)
    bench.clock.forward(3600)
    with capture_logs() as logs:
        await bench.round(bench.pending_questions)
    assert [entry["event"] for entry in logs] == ["human_input_unmatched"]
    assert len(bench.crew.questions) == 0


@pytest.mark.parametrize(("name", "most"), [("MAX_QUESTIONS", 2), ("MAX_QUESTION_BYTES", 700_000)])
async def test_of_too_many_or_too_large_questions_of_nobody_the_oldest_make_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, most: int
):
    """A thousand were kept, however large: a gigabyte."""
    monkeypatch.setattr(_tracker, name, most)
    output = "🦉" * 65_536  # four bytes each
    with capture_logs() as logs:
        for number in (1, 1, 1, 2, 3, 4):
            await bench.webhook.handle_flow_question("research", a_question(f"unknown-{number}", output=output))
    told = [(entry["event"], entry["kickoff_id"]) for entry in logs]
    assert told == [("human_input_unmatched", f"unknown-{number}") for number in (1, 2)]
    assert [kickoff_id for _, kickoff_id in await bench.round(bench.pending_questions)] == ["unknown-3", "unknown-4"]
    bench.crew.questions.remove("unknown-3")
    assert bench.crew.questions.add("unknown-5", QuestionContent(output=output), NOW) == []


async def test_a_flow_that_told_no_address_cannot_be_answered_here(bench: Bench):
    run = await with_policy(bench, is_flow=True).started()
    await look(bench, WaitingForHuman())
    assert await refused(bench, run.run_id, YES) == "not_waiting"
