"""A paused crew: no run fails, deadlines are extended, and it resumes automatically."""

from bridge.composition.crews import crews_check
from bridge.core.crew.responses import CrewUnavailable, NotFound, Running
from bridge.core.runs.model import State
from bridge.ports.lifecycle import Health
from tests.component.steps.conftest import Bench

WRONG_TOKEN = CrewUnavailable("HTTP 401: Not authenticated")


async def test_a_rejected_kickoff_pauses_its_crew_and_fails_no_run(bench: Bench):
    bench.api.kickoff_responses = [WRONG_TOKEN]
    run = await bench.started()
    assert run.state is State.ACCEPTED
    await bench.accepted(inputs={"topic": "another"})
    assert await bench.round(bench.kickoff) == []
    assert len(bench.api.bodies) == 1


async def test_a_paused_crew_is_probed_once_a_minute(bench: Bench):
    bench.api.kickoff_responses, bench.api.usable = [WRONG_TOKEN], False
    await bench.started()
    assert await bench.round(bench.probe) == []
    bench.clock.forward(60)
    assert len(await bench.round(bench.probe)) == 1
    assert await bench.round(bench.probe) == []
    assert bench.crew.breaker.is_open


async def test_after_a_successful_probe_another_kickoff_is_tried_first(bench: Bench):
    """Not the rejected one: if its own content were the cause, the crew would stay paused."""
    bench.api.kickoff_responses = [WRONG_TOKEN]
    first = await bench.started()
    second = await bench.accepted(inputs={"topic": "another"})
    bench.clock.forward(60)
    await bench.round(bench.probe)
    await bench.round(bench.kickoff)
    assert [(await bench.now(run)).state for run in (first, second)] == [State.ACCEPTED, State.RUNNING]
    bench.clock.forward(60)
    await bench.round(bench.kickoff)
    assert (await bench.now(first)).state is State.RUNNING
    assert bench.notified("kickoff-research")


async def test_a_quota_permits_one_kickoff_a_minute(bench: Bench):
    bench.api.kickoff_responses = [CrewUnavailable("HTTP 403: quota")] * 9
    for number in range(3):
        await bench.accepted(inputs={"topic": str(number)})
    await bench.round(bench.kickoff, limit=1)
    for _ in range(4):
        bench.clock.forward(60)
        await bench.round(bench.probe)
        await bench.round(bench.kickoff)
        await bench.round(bench.kickoff)
    assert len(bench.api.bodies) == 5


async def test_a_rejected_poll_pauses_the_crew_and_extends_deadlines(bench: Bench):
    run = await bench.started()
    bench.clock.forward(5)
    await bench.round(bench.poll)  # seen started; the deadline is 600 s from here
    bench.api.status_responses = [WRONG_TOKEN]
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


async def test_not_found_does_not_pause_the_crew(bench: Bench):
    bench.api.status_responses = [NotFound(), Running()]
    await bench.started()
    for _ in range(2):
        bench.clock.forward(6)
        await bench.round(bench.poll)
    assert not bench.crew.breaker.is_open


async def test_readiness_names_crews_that_are_paused_or_do_not_respond(bench: Bench):
    check = crews_check(bench.crews, bench.store.cluster, bench.clock)
    assert await check() == Health(ok=True, detail="all usable")
    for _ in range(5):
        bench.crew.rate_limiter.on_no_response(bench.clock(), bench.clock())
    assert await check() == Health(ok=False, detail="research: no response since 2027-01-15 08:00 UTC")
    bench.crew.pause_if_unavailable(WRONG_TOKEN, bench.clock())
    assert await check() == Health(ok=False, detail="research paused: HTTP 401")
