"""Commands from the queue: stored at once, and applied when the state of the run permits."""

import asyncio

import pytest

from bridge.core.crew.inputs import ListedInputs
from bridge.core.crew.responses import NotStarted, Started, Succeeded
from bridge.core.errors import RequestRefused
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import State
from bridge.steps.runs.input_check import BoundedInputCheck
from tests.component.steps.conftest import Bench
from tests.fakes import a_request

BY = "queue/kickoff.requests"


@pytest.mark.parametrize("response", [Started("k-1"), NotStarted("503")])
async def test_a_command_during_a_post_is_applied_after_the_response(bench: Bench, response: Started | NotStarted):
    """The message was held until then; fifty such messages delayed every other request by 42 s."""
    run = await bench.accepted()
    bench.api.kickoff_responses = [response]

    async def cancel(_: object) -> None:
        for _ in range(2):
            await bench.steps.accept_command(run.run_id, Cancel(), BY)
        assert await bench.round(bench.steps.deferred_commands) == []

    bench.api.meanwhile = cancel
    await bench.round(bench.kickoff)
    bench.clock.forward(120)
    assert await bench.store.claim_accepted("research", 9, 9, bench.clock()) == [], "must not be started again"
    await bench.round(bench.steps.deferred_commands)
    assert (await bench.now(run)).state is State.CANCELLED
    assert await bench.events(run) == ["run.cancelled"]
    assert await bench.round(bench.steps.deferred_commands) == []


async def test_a_command_for_a_run_whose_process_died_during_its_post_is_applied_when_the_run_is_in_doubt(bench: Bench):
    """A second application, as by another process, changes nothing."""
    run = await bench.left_starting()
    await bench.steps.accept_command(run.run_id, Cancel(), BY)
    assert await bench.store.commands.applicable(9) == []
    await bench.round(bench.recover)
    [command] = await bench.store.commands.applicable(9)
    await bench.steps.deferred_commands.handle(command)
    assert (await bench.now(run)).state is State.CANCELLED
    await bench.steps.deferred_commands.handle(command)
    assert await bench.store.commands.applicable(9) == []


async def test_a_command_for_an_ended_run_is_refused(bench: Bench):
    run = await bench.started()
    bench.api.status_responses = [Succeeded("done")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    with pytest.raises(RequestRefused) as refused:
        await bench.steps.accept_command(run.run_id, Cancel(), BY)
    assert refused.value.code == "run_is_over"
    assert not await bench.store.commands.defer(run.run_id, BY, 0.0)


async def test_a_command_that_cannot_be_applied_is_retried_later(bench: Bench):
    run = await bench.left_starting()
    await bench.steps.accept_command(run.run_id, Cancel(), BY)
    await bench.round(bench.recover)
    step = bench.steps.deferred_commands
    await step.quarantine((run.run_id, BY))
    assert await step.claim(9) == []
    bench.clock.forward(61)
    assert await step.claim(9) == [(run.run_id, BY)]
    assert step.about((run.run_id, BY)) == {"run_id": run.run_id}


async def test_a_limited_number_of_messages_waits_for_the_inputs_of_a_crew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """Fifty messages for a crew whose `GET /inputs` hung delayed those for other crews by 3 s."""
    requested, released = asyncio.Event(), asyncio.Event()

    async def hang() -> ListedInputs:
        requested.set()
        await released.wait()
        return ListedInputs(("topic",))

    monkeypatch.setattr(bench.api, "inputs", hang)
    check = BoundedInputCheck(bench.inputs, 2)
    lacking = a_request(inputs={})
    waiting = [asyncio.create_task(check(lacking)) for _ in range(2)]
    await requested.wait()
    for _ in range(50):
        await check(lacking)
    assert not any(task.done() for task in waiting)
    released.set()
    for task in waiting:
        with pytest.raises(RequestRefused):
            await task
    with pytest.raises(RequestRefused):
        await check(lacking)
