"""Runs in doubt: what the policy does when no evidence arrives."""

import pytest

from bridge.core.crew.responses import InDoubt
from bridge.core.crew_policy import DoubtPolicy
from bridge.core.runs.model import State
from tests.component.steps.conftest import Bench, with_policy


async def in_doubt(bench: Bench) -> str:
    bench.api.kickoff_responses = [InDoubt("HTTP 502")]
    return (await bench.started()).run_id


async def test_the_policy_does_not_apply_early(bench: Bench):
    await in_doubt(bench)
    bench.clock.forward(899)
    assert await bench.in_doubt.claim(9) == []


@pytest.mark.parametrize(
    ("policy", "state", "events"),
    [
        (DoubtPolicy.HOLD, State.IN_DOUBT, ["run.in_doubt"]),
        (DoubtPolicy.RETRY, State.ACCEPTED, ["run.in_doubt"]),
        (DoubtPolicy.FAIL, State.FAILED, ["run.in_doubt", "run.failed"]),
    ],
)
async def test_without_evidence_the_policy_applies(bench: Bench, policy: DoubtPolicy, state: State, events: list[str]):
    run_id = await in_doubt(with_policy(bench, in_doubt=policy))
    bench.clock.forward(900)
    assert len(await bench.round(bench.in_doubt)) == 1
    run = await bench.store.load(run_id)
    assert (run.state, run.owner) == (state, None)
    assert sorted(await bench.events(run)) == sorted(events)
    assert bench.notified("deliver-broker")


async def test_hold_reports_once(bench: Bench):
    run = await bench.store.load(await in_doubt(bench))
    for _ in range(4):
        bench.clock.forward(900)
        await bench.round(bench.in_doubt)
    assert len(await bench.store.queries.deliveries_for_run(run.run_id)) == 2  # one event, two destinations


async def test_retry_waits_for_evidence_and_then_posts_once_more(bench: Bench):
    run_id = await in_doubt(with_policy(bench, in_doubt=DoubtPolicy.RETRY, in_doubt_after=600.0))
    bench.clock.forward(599)
    assert await bench.round(bench.in_doubt) == []
    bench.clock.forward(1)
    await bench.round(bench.in_doubt)
    await bench.round(bench.kickoff)
    run = await bench.store.load(run_id)
    assert (run.state, run.attempt, len(bench.api.bodies)) == (State.RUNNING, 2, 2)


async def test_runs_in_doubt_of_a_removed_crew_wait(bench: Bench):
    await in_doubt(bench)
    bench.crews = {"other": bench.crew}
    bench.clock.forward(900)
    assert await bench.in_doubt.claim(9) == []


def test_the_steps_claim_every_few_seconds(bench: Bench):
    """A doubt is reported within a second of `in_doubt_after`."""
    assert (bench.recover.pause(), bench.in_doubt.pause()) == (5.0, 1.0)
