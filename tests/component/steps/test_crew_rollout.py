"""Processes with different crews on one store, as during the rollout of a new crew."""

from collections.abc import Sequence
from typing import Any

from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.webhooks import Kind
from bridge.core.runs.model import Envelope, State
from bridge.ports.inbound import Accepted
from tests.component.steps.conftest import KEY, Bench
from tests.contract.run_states import counts
from tests.fakes import a_request


async def another(bench: Bench, crews: Sequence[str] = ("writers",)) -> Bench:
    """A second process, with other crews."""
    other = bench.another(*crews)
    await other.store.cluster.join(bench.clock())
    return other


async def started(bench: Bench, number: int) -> None:
    bench.max_running = number
    for _ in range(number):
        await bench.accepted()
    while len(await bench.round(bench.kickoff)):
        pass


async def test_a_process_does_not_claim_runs_of_an_unknown_crew(bench: Bench):
    """It claimed such runs and kept them until its end."""
    run = await bench.left_running()
    doubtful = await bench.left_starting()
    other = await another(bench)
    assert await other.round(other.recover) == []
    assert [(await bench.now(one)).owner for one in (run, doubtful)] == [None, None]
    assert len(await bench.round(bench.recover)) == 2
    bench.clock.forward(bench.policy.in_doubt_after + 1)
    assert await other.round(other.in_doubt) == []
    assert [run.run_id for run in await bench.round(bench.in_doubt)] == [doubtful.run_id]


async def test_runs_are_not_released_to_a_process_without_their_crew(bench: Bench):
    """Half of them would not have been tracked."""
    await started(bench, 60)
    other = await another(bench)
    await bench.round(bench.rebalance)
    await other.round(other.rebalance)
    assert len(bench.crew.tracker.queue) == 60
    assert bench.crew.share.processes == 1  # and the whole rate is its own


async def test_a_process_claims_all_runs_of_a_crew_that_no_other_has(bench: Bench):
    await started(bench, 60)
    other = await another(bench, ("research", "writers"))
    await bench.round(bench.rebalance)
    await bench.abandon()
    bench.crew.tracker.forget_everything()
    third = await another(bench, ("writers",))
    await other.store.cluster.expire_processes(bench.clock(), -1.0)
    await other.store.cluster.join(bench.clock())
    await other.round(other.rebalance)
    assert (other.crew.share.processes, other.crews["writers"].share.processes) == (1, 1)
    assert len(await other.round(other.recover)) == 60
    assert await third.round(third.recover) == []


async def test_a_request_for_a_crew_of_another_process_is_stored(bench: Bench):
    """The old version refused it permanently, into the dead-letter queue, although the new version was running."""
    other = await another(bench)
    accepted: Accepted = await other.accept(a_request("research"), Envelope("queue"))
    assert [run.run_id for run in await bench.round(bench.kickoff)] == [accepted.run.run_id]


async def test_a_webhook_that_reaches_a_process_without_its_crew_is_handled_by_the_owner(bench: Bench):
    run = await bench.started()
    other = await another(bench)

    async def content() -> Any:
        return {"kickoff_id": run.kickoff_id, "result": "done"}

    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt))
    assert await other.webhook(token, Kind.CREW, content)
    assert len(await bench.round(bench.inbox)) == 1
    assert bench.crew.tracker.known(run.run_id).completion_signalled


async def test_a_webhook_of_an_unknown_crew_is_refused_if_no_other_process_is_possible(bench: Bench):
    run = await bench.started()
    bench.crews["writers"] = bench.crews.pop("research")

    async def content() -> Any:
        return {"kickoff_id": run.kickoff_id, "result": "done"}

    assert not await bench.webhook(
        webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, run.attempt)), Kind.CREW, content
    )


async def test_a_crew_without_a_process_is_logged_once(bench: Bench):
    await bench.left_running()
    other = await another(bench)
    await bench.store.close()
    with capture_logs() as logs:
        await other.rounds(other.housekeeping, seconds=6)
    logged = [entry for entry in logs if entry["event"] == "crew_not_configured"]
    assert [(entry["crew"], entry["runs"]) for entry in logged] == [("research", 1)]
    await bench.store.cluster.join(bench.clock())
    assert (await counts(bench.store))["runs"] == {State.RUNNING.value: 1}
