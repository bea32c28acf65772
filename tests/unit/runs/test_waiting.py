"""Each run that has not ended and is not being processed has a reason to wait."""

from dataclasses import replace

import pytest

from bridge.core.crew.circuit_breaker import Pause
from bridge.core.crew.rate_limiter import Backoff
from bridge.core.human_input.model import HumanInput, Question, QuestionStage
from bridge.core.runs import history
from bridge.core.runs.budget import SpentBudget
from bridge.core.runs.model import Deferral, Run, State
from bridge.core.runs.waiting import CrewSituation, Reason, Waiting, why_waiting
from tests.fakes import NOW, a_run

SPENT = SpentBudget(500, 86_400.0, NOW + 60.0)
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


def test_a_held_run_waits_for_its_release() -> None:
    held = replace(in_state(State.ACCEPTED), due_at=None, deferral=DEFERRAL)
    waiting = why_waiting(held)
    assert waiting is not None
    assert (waiting.reason, waiting.until) == (Reason.HELD, None)


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
    waiting = why_waiting(replace(in_state(state), deferral=DEFERRAL), CrewSituation(served=False))
    assert waiting == Waiting(
        Reason.CREW_NOT_CONFIGURED, "no bridge has the crew research in its settings; add it, or cancel the run", NOW
    )
    assert why_waiting(in_state(State.CANCELLED), CrewSituation(served=False)) is None


@pytest.mark.parametrize(
    ("crew", "waiting"),
    [
        (
            CrewSituation(max_running=4, slots_held=4),
            Waiting(Reason.SLOT, "4 runs of the crew are in progress, of at most 4", NOW),
        ),
        (
            CrewSituation(max_running=4, slots_held=4, crew_budget=SPENT),
            Waiting(Reason.BUDGET, "the budget of the crew research is spent: 500 runs in 1d", NOW, NOW + 60.0),
        ),
        (
            CrewSituation(
                crew_budget=SPENT, sender_budgets={a_run().envelope.source: SpentBudget(1, 90.0, NOW + 90.0)}
            ),
            Waiting(Reason.BUDGET, "the budget of the client is spent: 1 runs in 90s", NOW, NOW + 90.0),
        ),
        (
            CrewSituation(pause=Pause("HTTP 401", NOW + 60.0, probed=False), max_running=0),
            Waiting(Reason.CREW_PAUSED, "the crew refuses our token: HTTP 401 since 2027-01-15 08:01 UTC", NOW + 60.0),
        ),
        (
            CrewSituation(pause=Pause("HTTP 429", NOW - 60.0, probed=True)),
            Waiting(
                Reason.CREW_PAUSED,
                "the crew cannot be used now: HTTP 429 since 2027-01-15 07:59 UTC; it may work again, and "
                "one kickoff is tried first",
                NOW,
            ),
        ),
        (
            CrewSituation(backoff=Backoff(NOW - 1.0, NOW + 2.0)),
            Waiting(
                Reason.RATE_LIMITED,
                "calls to the crew are suspended, because it refused several or did not answer",
                NOW,
                NOW + 2.0,
            ),
        ),
        (
            CrewSituation(kickoffs_limited=True),
            Waiting(Reason.RATE_LIMITED, "kickoffs wait for the crew's rate limit", NOW),
        ),
        (
            CrewSituation(writable=False, max_running=4, slots_held=4),
            Waiting(Reason.STORE, "storage cannot be written, so no run is started", NOW),
        ),
        (CrewSituation(max_running=4, slots_held=3), None),
    ],
)
def test_what_delays_the_start_of_a_run(crew: CrewSituation, waiting: Waiting | None) -> None:
    assert why_waiting(in_state(State.ACCEPTED), crew) == waiting


def test_an_attempt_that_started_nothing_is_repeated_when_due() -> None:
    run = replace(in_state(State.ACCEPTED), attempt=2)
    full = CrewSituation(NOW, max_running=1, slots_held=1)
    assert why_waiting(run, full) == Waiting(Reason.RETRY, "attempt 2 did not start an execution", NOW, NOW + 900.0)
    deferred = history.record(history.record(run, "deferred", NOW, reason="HTTP 503"), "posted", NOW, attempt=2)
    deferred = history.record(deferred, "deferred", NOW, reason="connection failed")
    waiting = why_waiting(deferred, full)
    assert waiting is not None
    assert waiting.detail == "attempt 2 did not start an execution: connection failed"
    due = why_waiting(run, replace(full, at=NOW + 900.0))
    assert due is not None
    assert due.reason is Reason.SLOT


def test_a_deferral_that_is_over_delays_nothing() -> None:
    assert why_waiting(replace(in_state(State.RUNNING), deferral=DEFERRAL), CrewSituation(NOW + 5.0)) is None


@pytest.mark.parametrize(
    ("run", "paused", "probed"),
    [
        (in_state(State.RUNNING), Reason.CREW_PAUSED, None),
        (in_state(State.WAITING_FOR_HUMAN, QuestionStage.ACCEPTED), Reason.CREW_PAUSED, None),
        (in_state(State.WAITING_FOR_HUMAN), Reason.HUMAN, Reason.HUMAN),
        (in_state(State.IN_DOUBT), Reason.IN_DOUBT, Reason.IN_DOUBT),
        (in_state(State.STARTING), None, None),
    ],
)
def test_a_pause_delays_runs_that_need_a_call(run: Run, paused: Reason | None, probed: Reason | None) -> None:
    """After a successful probe, only kickoffs wait."""
    for expected, pause in (
        (paused, Pause("HTTP 401", NOW, probed=False)),
        (probed, Pause("HTTP 401", NOW, probed=True)),
    ):
        waiting = why_waiting(run, CrewSituation(pause=pause))
        assert (waiting and waiting.reason) == expected


def test_polls_are_delayed_by_a_backoff_but_not_by_kickoffs_that_wait() -> None:
    polled = in_state(State.RUNNING)
    waiting = why_waiting(polled, CrewSituation(backoff=Backoff(NOW + 1.0, None)))
    assert waiting is not None
    assert (waiting.reason, waiting.since, waiting.until) == (Reason.RATE_LIMITED, NOW + 1.0, None)
    assert why_waiting(polled, CrewSituation(kickoffs_limited=True, max_running=1, slots_held=1)) is None
