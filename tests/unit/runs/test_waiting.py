"""Each run that has not ended and is not being processed has a reason to wait."""

from dataclasses import replace

import pytest

from bridge.core.human_input.model import HumanInput, Question, QuestionStage
from bridge.core.runs.model import Deferral, Run, State
from bridge.core.runs.waiting import Reason, Waiting, why_waiting
from tests.fakes import NOW, a_run

DEFERRAL = Deferral("internal error", NOW, NOW + 5.0)


def in_state(state: State, stage: QuestionStage = QuestionStage.OPEN) -> Run:
    question = Question(1, NOW + 3.0, NOW + 9.0, stage=stage)
    return replace(a_run(), state=state, due_at=NOW + 900.0, human_input=HumanInput(question))


@pytest.mark.parametrize("state", [State.ACCEPTED, State.STARTING, State.RUNNING])
def test_a_run_without_an_obstacle_waits_for_its_turn(state: State) -> None:
    assert why_waiting(in_state(state)) is None


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RUNNING, State.IN_DOUBT, State.WAITING_FOR_HUMAN])
def test_a_deferred_run_waits_for_its_retry(state: State) -> None:
    deferred = replace(in_state(state), deferral=DEFERRAL)
    assert why_waiting(deferred) == Waiting(Reason.RETRY, "internal error", NOW, NOW + 5.0)


def test_an_ended_run_waits_for_nothing() -> None:
    assert why_waiting(replace(in_state(State.CANCELLED), deferral=DEFERRAL)) is None


def test_a_run_in_doubt_waits_for_evidence_since_its_post() -> None:
    waiting = why_waiting(replace(in_state(State.IN_DOUBT), sent_at=NOW + 1.0))
    assert waiting is not None
    assert (waiting.reason, waiting.since, waiting.until) == (Reason.IN_DOUBT, NOW + 1.0, NOW + 900.0)


def test_a_run_in_doubt_without_a_post_waits_since_it_was_accepted() -> None:
    waiting = why_waiting(replace(in_state(State.IN_DOUBT), due_at=None))
    assert waiting is not None
    assert (waiting.since, waiting.until) == (NOW, None)


def test_a_run_with_an_open_question_waits_for_a_human() -> None:
    waiting = why_waiting(in_state(State.WAITING_FOR_HUMAN))
    assert waiting is not None
    assert (waiting.reason, waiting.since, waiting.until) == (Reason.HUMAN, NOW + 3.0, NOW + 9.0)
    assert why_waiting(in_state(State.WAITING_FOR_HUMAN, QuestionStage.ACCEPTED)) is None
    assert why_waiting(replace(in_state(State.WAITING_FOR_HUMAN), human_input=HumanInput())) is None


@pytest.mark.parametrize("state", [State.ACCEPTED, State.STARTING, State.RUNNING, State.IN_DOUBT])
def test_a_missing_crew_takes_precedence_over_other_reasons(state: State) -> None:
    waiting = why_waiting(replace(in_state(state), deferral=DEFERRAL), served=False)
    assert waiting == Waiting(
        Reason.CREW_NOT_CONFIGURED, "no replica has the crew research in its settings; add it, or cancel the run", NOW
    )
    assert why_waiting(in_state(State.CANCELLED), served=False) is None
