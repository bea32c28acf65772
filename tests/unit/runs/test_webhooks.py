"""What a crew webhook means for its run."""

from dataclasses import replace

import pytest

from bridge.core.crew.webhooks import CrewWebhook
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input.model import HumanInput, Question, QuestionContent, QuestionStage
from bridge.core.runs.model import Run, State, Task
from bridge.core.runs.webhooks import is_relevant, is_superseded, on_evidence, on_task, reports_late_end
from tests.fakes import NOW, a_run

EVIDENCE = CrewWebhook("k-1")
END = CrewWebhook("k-1", ended=True)
QUESTION = CrewWebhook(question=QuestionContent("t-1"))
RESUMED = CrewWebhook(resumed=True)
NOTHING = CrewWebhook()


def run(state: State, kickoff_id: str | None = None, attempt: int = 1) -> Run:
    return replace(a_run(), state=state, kickoff_id=kickoff_id, attempt=attempt)


def asking(state: State, stage: QuestionStage) -> Run:
    question = Question(1, NOW, stage=stage)
    return replace(run(state, "k-1"), human_input=HumanInput(question))


@pytest.mark.parametrize(
    ("stored", "webhook", "expected"),
    [
        (run(State.RUNNING, "k-1"), RESUMED, False),
        (asking(State.WAITING_FOR_HUMAN, QuestionStage.OPEN), RESUMED, True),
        (asking(State.RUNNING, QuestionStage.SENT), RESUMED, True),
        (asking(State.RUNNING, QuestionStage.CONFIRMED), RESUMED, False),
        (run(State.RUNNING, "k-1"), EVIDENCE, False),
        (run(State.RUNNING, "k-1"), END, True),
        (run(State.WAITING_FOR_HUMAN, "k-1"), QUESTION, True),
        (run(State.STARTING), EVIDENCE, True),
        (run(State.STARTING), QUESTION, True),
        (run(State.STARTING), NOTHING, False),
        (run(State.IN_DOUBT), EVIDENCE, True),
        (run(State.IN_DOUBT), QUESTION, False),
        (run(State.ACCEPTED), EVIDENCE, True),
        (run(State.CANCELLED, "k-1"), END, True),
        (run(State.CANCELLED, "k-1"), EVIDENCE, False),
        (run(State.CANCELLED, "k-1"), CrewWebhook("k-2", ended=True), True),
        (replace(run(State.RUNNING, "wrong"), unverified=True), EVIDENCE, True),
        (replace(run(State.RUNNING, "k-1"), unverified=True), EVIDENCE, False),
        (run(State.CANCELLED), EVIDENCE, True),
        (run(State.CANCELLED), NOTHING, False),
    ],
)
def test_a_webhook_is_stored_only_if_its_run_needs_it(stored: Run, webhook: CrewWebhook, expected: bool):
    assert is_relevant(stored, 1, webhook) is expected


def test_a_second_execution_of_a_run_always_counts():
    second = run(State.RUNNING, "k-2", attempt=2)
    assert is_superseded(second, 1, EVIDENCE)
    assert is_relevant(second, 1, EVIDENCE)
    assert not is_superseded(second, 2, EVIDENCE)
    assert not is_superseded(second, 1, CrewWebhook("k-2"))
    assert not is_superseded(run(State.IN_DOUBT, attempt=2), 1, EVIDENCE)


def test_evidence_corrects_an_execution_that_the_api_has_never_known():
    wrong = replace(run(State.RUNNING, "wrong"), unverified=True)
    corrected = on_evidence(wrong, 1, EVIDENCE, CrewPolicy(), NOW)
    assert corrected is not None
    assert (corrected.run.kickoff_id, corrected.run.unverified, corrected.run.owner) == ("k-1", False, None)
    assert not is_superseded(replace(wrong, attempt=2), 1, EVIDENCE)
    assert on_evidence(replace(wrong, unverified=False), 1, EVIDENCE, CrewPolicy(), NOW) is None


@pytest.mark.parametrize(
    ("webhook", "expected"),
    [
        (CrewWebhook("k-1"), ("k-1", False)),
        (CrewWebhook("k-1", certain=False), None),
        (CrewWebhook("k-1", certain=False, ended=True), ("k-1", True)),
    ],
)
def test_an_uncertain_start_corrects_no_id_but_an_end_does(webhook: CrewWebhook, expected: tuple[str, bool] | None):
    """The execution itself ends after all inner ones."""
    decision = on_evidence(replace(run(State.RUNNING, "inner"), unverified=True), 1, webhook, CrewPolicy(), NOW)
    assert (decision and (decision.run.kickoff_id, decision.run.unverified)) == expected


@pytest.mark.parametrize("certain", [True, False])
def test_an_uncertain_id_is_unverified(certain: bool):
    decision = on_evidence(run(State.IN_DOUBT), 1, CrewWebhook("k-1", certain), CrewPolicy(), NOW)
    assert decision is not None
    assert (decision.run.state, decision.run.unverified) == (State.RUNNING, not certain)


def test_only_the_end_of_an_ended_runs_own_execution_counts():
    """After a pause, the end of a flow may have another id."""
    assert reports_late_end(run(State.TIMED_OUT, "k-1"), END)
    assert reports_late_end(run(State.TIMED_OUT, "k-1"), CrewWebhook("k-2", ended=True))
    assert reports_late_end(run(State.TIMED_OUT, "k-1"), CrewWebhook(ended=True))
    assert not reports_late_end(run(State.TIMED_OUT, "k-1"), EVIDENCE)
    assert not reports_late_end(run(State.RUNNING, "k-1"), END)


def test_a_finished_task_is_stored_once_while_the_run_has_not_ended():
    run, task = replace(a_run(), state=State.RUNNING, kickoff_id="k-1"), Task("collect", None, "1. ...", NOW)
    decision = on_task(run, task)
    assert decision is not None
    assert decision.run == replace(run, tasks=(task,))
    assert on_task(decision.run, task) is None
    assert on_task(replace(run, state=State.SUCCEEDED, finished_at=NOW), task) is None
