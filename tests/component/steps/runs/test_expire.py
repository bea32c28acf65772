"""Runs that were not started in time end on time, whatever delays their start."""

from dataclasses import replace

from bridge.core.crew.responses import CrewUnavailable, NotStarted
from bridge.core.runs.budget import Budget, Budgets
from bridge.core.runs.model import Run, State
from tests.component.steps.conftest import Bench
from tests.fakes import NOW


async def expired(bench: Bench, run: Run) -> bool:
    """Whether the run has failed because it was not started in time, with one final event."""
    now = await bench.now(run)
    if now.outcome.error is None or now.outcome.error.code != "expired":
        return False
    assert (now.state, await bench.events(run)) == (State.FAILED, ["run.failed"])
    return True


async def end_expired(bench: Bench, run: Run) -> None:
    """Nothing ends the run before its time; at its time, it ends, and a kickoff does not start it."""
    bench.clock.forward(NOW + 59 - bench.clock())
    await bench.round(bench.steps.expire)
    assert not await expired(bench, run)
    bench.clock.forward(1)
    assert await bench.round(bench.kickoff) == []
    await bench.round(bench.steps.expire)
    assert await expired(bench, run)
    bench.clock.forward(3600)
    assert await bench.round(bench.kickoff) == []


async def test_a_run_of_a_paused_crew_expires(bench: Bench):
    bench.api.kickoff_responses, bench.api.usable = [CrewUnavailable("HTTP 401")], False
    run = await bench.started(start_by=60.0)
    await end_expired(bench, run)
    assert len(bench.api.bodies) == 1


async def test_a_run_without_a_slot_expires(bench: Bench):
    bench.max_running = 1
    running = await bench.started(inputs={"topic": "another"}, start_by=60.0)
    await end_expired(bench, await bench.accepted(start_by=60.0))
    assert (await bench.now(running)).state is State.RUNNING


async def test_a_run_beyond_the_budget_expires(bench: Bench):
    bench.crews["research"] = replace(bench.crew, budgets=Budgets(Budget(1, 86_400.0)))
    await bench.started(inputs={"topic": "another"})
    await end_expired(bench, await bench.accepted(start_by=60.0))


async def test_a_run_that_the_crew_did_not_take_expires_before_its_next_attempt(bench: Bench):
    bench.api.kickoff_responses = [NotStarted("HTTP 429", 300.0)]
    await end_expired(bench, await bench.started(start_by=60.0))


async def test_the_setting_of_the_crew_applies_to_requests_without_their_own(bench: Bench):
    bench.policy = replace(bench.policy, start_by=60.0)
    bench.crews["research"].breaker.trip("HTTP 401", NOW)
    longer = await bench.accepted(inputs={"topic": "another"}, start_by=7200.0)
    await end_expired(bench, await bench.accepted())
    assert (await bench.now(longer)).state is State.ACCEPTED


async def test_a_run_whose_post_may_have_left_does_not_expire(bench: Bench):
    run = await bench.started(start_by=60.0)
    bench.clock.forward(3600)
    assert await bench.round(bench.steps.expire) == []
    assert (await bench.now(run)).state is State.RUNNING
