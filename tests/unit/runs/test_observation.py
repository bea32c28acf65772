"""What a poll reveals if the status is too large to be read."""

from dataclasses import replace

import pytest

from bridge.core.crew.responses import Running, StatusResponse, TooLarge, Unknown
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import tracking
from bridge.core.runs.model import Run, State, TrackedRun
from bridge.core.runs.observation import apply_observation, observe
from tests.fakes import NOW, a_run, event_types

POLICY = CrewPolicy(results_exchange=True, max_response=1000)
RUN = replace(a_run(), state=State.RUNNING, kickoff_id="k-1", attempt=1, sent_at=NOW)


def a_tracked_run(run: Run = RUN) -> TrackedRun:
    return tracking.tracked_from_run(run, POLICY, NOW)


def test_a_success_with_a_status_that_is_too_large_ends_the_run():
    observation = observe(a_tracked_run(), TooLarge(succeeded=True), POLICY, NOW + 50)
    decision = apply_observation(RUN, observation, POLICY)
    assert decision.run.outcome.error is not None
    assert (decision.run.state, decision.run.outcome.error.code) == (State.FAILED, "result_too_large")
    assert "1000 bytes" in decision.run.outcome.error.message
    assert event_types(decision.deliveries) == ["run.failed"]


def test_a_status_that_is_too_large_to_be_understood_proves_that_the_execution_exists():
    tracked = replace(a_tracked_run(), missing=4, errors=2)
    seen = observe(tracked, TooLarge(succeeded=False), POLICY, NOW + 50).tracked
    assert (seen.missing, seen.errors, seen.started_at) == (0, 3, NOW + 50)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Running(), ""),
        (TooLarge(succeeded=False), ", as far as its status can be read: it exceeds max_response of the crew"),
        (Unknown("state '?'"), ", as far as its status can be read: state '?'"),
    ],
)
def test_a_run_that_times_out_says_if_its_status_could_not_be_read(response: StatusResponse, reason: str):
    seen = observe(a_tracked_run(), Running(), POLICY, NOW + 1)
    running = apply_observation(RUN, seen, POLICY).run
    late = apply_observation(running, observe(seen.tracked, response, POLICY, NOW + 1 + POLICY.deadline), POLICY)
    assert late.run.state is State.TIMED_OUT
    assert late.run.outcome.error is not None
    expected = f"not ended {POLICY.deadline:g} s after it was first seen started{reason}"
    assert late.run.outcome.error.message == expected
