"""A crew that cannot be used: nothing is failed, deadlines stand still, and it goes on by itself."""

import pytest

from bridge.core.crew.responses import CrewUnavailable, NotFound, Running
from bridge.core.errors import Stale
from bridge.core.runs.model import State
from tests.component.steps.conftest import Bench

WRONG_TOKEN = CrewUnavailable("HTTP 401: Not authenticated")


async def test_a_kickoff_that_is_turned_away_pauses_its_crew_and_fails_nothing(bench: Bench):
    bench.api.kickoff_answers = [WRONG_TOKEN]
    run = await bench.started()
    assert run.state is State.ACCEPTED
    await bench.accepted(inputs={"topic": "another"})
    assert await bench.round(bench.kickoff) == []
    assert len(bench.api.bodies) == 1


async def test_a_paused_crew_is_probed_once_a_minute(bench: Bench):
    bench.api.kickoff_answers, bench.api.usable = [WRONG_TOKEN], False
    await bench.started()
    assert await bench.round(bench.probe) == []
    bench.clock.forward(60)
    assert len(await bench.round(bench.probe)) == 1
    assert await bench.round(bench.probe) == []
    assert bench.crew.breaker.is_open


async def test_when_the_probe_works_another_kickoff_tries_and_the_rest_follows(bench: Bench):
    """Not the one that was turned away: were its own content to blame, it would close the crew for ever."""
    bench.api.kickoff_answers = [WRONG_TOKEN]
    first = await bench.started()
    second = await bench.accepted(inputs={"topic": "another"})
    bench.clock.forward(60)
    await bench.round(bench.probe)
    await bench.round(bench.kickoff)
    assert [(await bench.now(run)).state for run in (first, second)] == [State.ACCEPTED, State.RUNNING]
    bench.clock.forward(60)
    await bench.round(bench.kickoff)
    assert (await bench.now(first)).state is State.RUNNING
    assert bench.signals["kickoff"].calls


async def test_a_quota_lets_one_kickoff_a_minute_try(bench: Bench):
    bench.api.kickoff_answers = [CrewUnavailable("HTTP 403: quota")] * 9
    for number in range(3):
        await bench.accepted(inputs={"topic": str(number)})
    await bench.round(bench.kickoff, room=1)
    for _ in range(4):
        bench.clock.forward(60)
        await bench.round(bench.probe)
        await bench.round(bench.kickoff)
        await bench.round(bench.kickoff)
    assert len(bench.api.bodies) == 5


async def test_a_look_that_is_turned_away_pauses_too_and_the_deadline_stands_still(bench: Bench):
    run = await bench.started()
    bench.clock.forward(5)
    await bench.round(bench.poll)  # seen started; the deadline is 600 s from here
    bench.api.status_answers = [WRONG_TOKEN]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    bench.clock.forward(5_000)
    assert await bench.round(bench.poll) == []
    await bench.round(bench.probe)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.RUNNING
    bench.clock.forward(700)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.TIMED_OUT


async def test_a_run_that_was_cancelled_before_its_try_leaves_the_try_to_another(bench: Bench):
    bench.api.kickoff_answers = [WRONG_TOKEN]
    await bench.started()
    bench.clock.forward(120)
    await bench.round(bench.probe)
    [claimed] = await bench.kickoff.claim(9)
    await bench.abandon()
    with pytest.raises(Stale):
        await bench.kickoff.handle(claimed)
    assert len(await bench.round(bench.kickoff)) == 1


async def test_a_turn_for_a_run_that_others_have_in_hand_makes_nobody_wait_for_an_answer(bench: Bench):
    """After a rest one call goes alone; when it is not made, nothing would come of it for a minute."""
    rate_limiter, now = bench.crew.rate_limiter, bench.clock()
    await bench.accepted()
    [claimed] = await bench.kickoff.claim(9)
    await bench.abandon()
    rate_limiter.on_throttled(now - 60, now - 60, 1.0)
    assert rate_limiter.acquire(now) == 0.0, "the lone call"
    with pytest.raises(Stale):
        await bench.kickoff.handle(claimed)
    assert rate_limiter.acquire(now + 1) == 0.0


async def test_not_found_pauses_nobody(bench: Bench):
    bench.api.status_answers = [NotFound(), Running()]
    await bench.started()
    for _ in range(2):
        bench.clock.forward(6)
        await bench.round(bench.poll)
    assert not bench.crew.breaker.is_open
