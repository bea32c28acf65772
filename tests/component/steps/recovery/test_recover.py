"""Recovery of runs that a dead process owned."""

from typing import Any

from bridge.core.crew import webhook_tokens
from bridge.core.crew.responses import Succeeded
from bridge.core.crew.webhooks import Kind
from bridge.core.runs.model import State
from tests.component.steps.conftest import KEY, Bench
from tests.fakes import NOW


async def test_a_starting_run_is_in_doubt_and_never_posted_again(bench: Bench):
    run = await bench.left_starting()
    await bench.round(bench.recover)
    recovered = await bench.now(run)
    assert (recovered.state, recovered.owner, recovered.due_at) == (State.IN_DOUBT, None, NOW + 900)
    assert await bench.round(bench.kickoff) == []
    assert bench.api.bodies == []


async def test_a_webhook_before_the_recovery_avoids_the_doubt(bench: Bench):
    run = await bench.left_starting()

    async def read() -> Any:
        return {"kickoff_id": "k-1"}

    assert await bench.webhook(webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, 1)), Kind.TASK, read)
    assert (await bench.now(run)).state is State.STARTING
    await bench.round(bench.recover)
    await bench.round(bench.inbox)
    now = await bench.now(run)
    assert (now.state, now.kickoff_id) == (State.RUNNING, "k-1")


async def test_a_running_run_is_tracked_again(bench: Bench):
    run = await bench.left_running()
    await bench.round(bench.recover)
    due = bench.crew.tracker.queue.next_due()
    assert due is not None
    assert NOW <= due <= NOW + 5
    assert bench.notified("poll-research")
    bench.clock.moment = due
    bench.api.default_status = Succeeded("r", None, None)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_runs_with_an_owner_are_not_claimed(bench: Bench):
    await bench.started()
    assert await bench.recover.claim(9) == []


async def test_the_limit_is_respected_and_one_write_claims_both_kinds(bench: Bench):
    """With two writes, runs of the first stayed claimed and untracked when the second one failed."""
    await bench.left_running()
    await bench.left_starting()
    assert len(await bench.recover.claim(1)) == 1
    assert len(await bench.recover.claim(1)) == 1
    assert await bench.recover.claim(1) == []


async def test_runs_of_a_removed_crew_wait(bench: Bench):
    run = await bench.left_running()
    bench.crews = {"other": bench.crew}
    assert await bench.recover.claim(9) == []
    assert (await bench.now(run)).state is State.RUNNING
