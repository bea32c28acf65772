"""The times of polls after a webhook signalled an end that the status does not confirm."""

from dataclasses import replace

import pytest

from bridge.core.crew.responses import Running, TooLarge
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import late_results, timing
from bridge.core.runs.model import Run, State
from tests.fakes import NOW, a_run


@pytest.mark.parametrize(
    ("passed", "soon"), [(0.0, 0.3), (0.3, 1.0), (0.5, 1.0), (1.0, 2.0), (3.0, 4.0), (4.0, None), (90.0, None)]
)
def test_polls_follow_a_schedule_after_an_announced_end(passed: float, soon: float | None):
    assert timing.signalled_end_poll_at(NOW, NOW + passed) == (None if soon is None else NOW + soon)


def test_without_an_announced_end_polls_keep_their_schedule():
    assert timing.signalled_end_poll_at(None, NOW) is None


def cancelled(due_at: float | None) -> Run:
    return replace(a_run(), state=State.CANCELLED, kickoff_id="k-1", finished_at=NOW, due_at=due_at)


def test_an_ended_run_that_is_due_later_becomes_due_now():
    decision = late_results.on_end_signalled(cancelled(NOW + 60), NOW + 1)
    assert decision is not None
    assert decision.run.due_at == NOW + 1


@pytest.mark.parametrize(
    "run", [cancelled(None), cancelled(NOW), replace(cancelled(NOW + 60), owner="p"), replace(a_run(), due_at=NOW + 60)]
)
def test_a_run_with_a_known_end_or_a_pending_poll_stays_unchanged(run: Run):
    assert late_results.on_end_signalled(run, NOW + 1) is None


def test_a_late_result_that_is_too_large_is_reported_as_such():
    policy = CrewPolicy(callback_url="https://shop.example/done")
    late = late_results.on_poll(cancelled(NOW), TooLarge(succeeded=True), policy, NOW + 1)
    assert late.run.due_at is None
    [delivery] = late.deliveries
    assert delivery.event.type == "run.late_result"
    assert b"result_too_large" in delivery.event.body


def test_a_poll_that_does_not_confirm_the_end_is_repeated_soon():
    late = late_results.on_poll(cancelled(NOW), Running(), CrewPolicy(), NOW + 1, signalled_at=NOW + 1)
    assert late.run.due_at == NOW + 1.3
