"""What a dead process left behind, and what becomes of runs in doubt."""

import pytest

from bridge.core.crew.responses import InDoubt, Succeeded
from bridge.core.runs.model import DoubtPolicy, State
from tests.component.steps.conftest import Bench, with_policy
from tests.fakes import NOW


async def test_a_run_that_was_being_started_is_in_doubt_and_never_posted_again(bench: Bench):
    run = await bench.left_starting()
    await bench.round(bench.recover)
    doubted = await bench.now(run)
    assert (doubted.state, doubted.owner, doubted.due_at) == (State.IN_DOUBT, None, NOW + 900)
    assert await bench.round(bench.kickoff) == []
    assert bench.api.bodies == []


async def test_a_webhook_that_is_faster_than_the_recovery_spares_the_doubt(bench: Bench):
    run = await bench.left_starting()
    bench.crew.tracker.keep_evidence(run.run_id, "k-1")
    await bench.round(bench.recover)
    now = await bench.now(run)
    assert (now.state, now.kickoff_id, bench.crew.tracker._evidence) == (State.RUNNING, "k-1", {})


async def test_a_run_that_was_under_way_is_followed_again(bench: Bench):
    run = await bench.left_running()
    await bench.round(bench.recover)
    due = bench.crew.tracker.queue.next_due()
    assert due is not None
    assert NOW <= due <= NOW + 5
    assert bench.signals["poll"].calls == ["research"]
    bench.clock.moment = due
    bench.api.standing_status = Succeeded("r", None, None)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_what_somebody_owns_is_left_alone(bench: Bench):
    await bench.started()
    assert await bench.recover.claim(9) == []


async def test_room_is_kept_and_one_write_takes_both_kinds(bench: Bench):
    """Two writes once left the first one's runs claimed and forgotten when the second one failed."""
    await bench.left_running()
    await bench.left_starting()
    assert len(await bench.recover.claim(1)) == 1
    assert len(await bench.recover.claim(1)) == 1
    assert await bench.recover.claim(1) == []


async def test_runs_of_a_crew_that_is_not_configured_any_more_wait(bench: Bench):
    run = await bench.left_running()
    bench.made = {"other": bench.crew}
    assert await bench.recover.claim(9) == []
    assert (await bench.now(run)).state is State.RUNNING


async def doubted(bench: Bench) -> str:
    bench.api.kickoff_answers = [InDoubt("HTTP 502")]
    return (await bench.started()).run_id


async def test_before_its_time_a_doubt_is_left_alone(bench: Bench):
    await doubted(bench)
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
async def test_when_no_evidence_came_the_policy_decides(
    bench: Bench, policy: DoubtPolicy, state: State, events: list[str]
):
    run_id = await doubted(with_policy(bench, in_doubt=policy))
    bench.clock.forward(900)
    assert len(await bench.round(bench.in_doubt)) == 1
    run = await bench.store.load(run_id)
    assert (run.state, run.owner) == (state, None)
    assert sorted(await bench.events(run)) == sorted(events)
    assert bench.signals["deliver"].calls == [""]


async def test_hold_says_so_once(bench: Bench):
    run = await bench.store.load(await doubted(bench))
    for _ in range(4):
        bench.clock.forward(900)
        await bench.round(bench.in_doubt)
    assert len(await bench.store.deliveries_for_run(run.run_id)) == 2  # one event, two destinations


async def test_retry_waits_for_evidence_and_then_posts_once_more(bench: Bench):
    run_id = await doubted(with_policy(bench, in_doubt=DoubtPolicy.RETRY, in_doubt_after=600.0))
    bench.clock.forward(599)
    assert await bench.round(bench.in_doubt) == []
    bench.clock.forward(1)
    await bench.round(bench.in_doubt)
    await bench.round(bench.kickoff)
    run = await bench.store.load(run_id)
    assert (run.state, run.attempt, len(bench.api.bodies)) == (State.RUNNING, 2, 2)


async def test_runs_in_doubt_of_a_crew_that_is_not_configured_any_more_wait(bench: Bench):
    await doubted(bench)
    bench.made = {"other": bench.crew}
    bench.clock.forward(900)
    assert await bench.in_doubt.claim(9) == []


def test_both_look_around_every_few_seconds(bench: Bench):
    """A doubt is said within a second, as short as `in_doubt_after` may be."""
    assert (bench.recover.pause(), bench.in_doubt.pause()) == (5.0, 1.0)
