"""The crew API's webhooks: they bring lost executions back and make us look, and nothing depends on them."""

from typing import Any

import pytest

from bridge.core import tokens
from bridge.core.answers import InDoubt, NoAnswer, NotFound, Running, Started, Succeeded
from bridge.core.hints import Kind
from bridge.core.model import Run, State
from tests.steps.conftest import KEY, Bench

CREW_DONE = {"kickoff_id": "execution-1", "result": "All about peat.", "result_json": None, "token_usage": {"n": 1}}


def token_of(run: Run, attempt: int = 1) -> str:
    return tokens.issue(KEY, tokens.Attempt(run.run_id, attempt))


async def send(bench: Bench, run: Run, kind: Kind, body: Any, attempt: int = 1) -> bool:
    async def read() -> Any:
        return body

    return await bench.hint(token_of(run, attempt), kind, read)


async def test_every_kickoff_names_webhooks_of_its_own(bench: Bench):
    first, second = await bench.started(), await bench.started(inputs={"topic": "another"})
    bodies = [body["crewWebhookUrl"] for body in bench.api.bodies]
    assert bodies == [f"https://bridge.example.com/amp/{token_of(run)}/crew" for run in (first, second)]
    assert bench.api.bodies[0]["webhooks"]["url"].endswith("/stream")


async def test_a_webhook_of_the_crew_makes_us_look_now(bench: Bench):
    run = await bench.started()
    bench.api.status_answers = [Succeeded("All about peat.")]
    assert await bench.round(bench.poll) == []
    assert await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_the_status_decides_even_if_a_webhook_says_otherwise(bench: Bench):
    run = await bench.started()
    bench.api.status_answers = [Running(), Succeeded("The truth.")]
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-1", "result": "Forged."})
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.RUNNING
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert (await bench.now(run)).outcome.result == "The truth."


@pytest.mark.parametrize("status", [NotFound(), NoAnswer("HTTP 502")])
async def test_where_the_status_knows_nothing_the_crews_own_webhook_is_believed(
    bench: Bench, status: NotFound | NoAnswer
):
    run = await bench.started()
    bench.api.status_answers = [status]
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    ended = await bench.now(run)
    assert (ended.state, ended.outcome.result, ended.outcome.usage) == (State.SUCCEEDED, "All about peat.", {"n": 1})


async def test_webhooks_that_come_twice_or_too_late_change_nothing(bench: Bench):
    run = await bench.started()
    bench.api.status_answers = [Succeeded("Once.")]
    for _ in range(3):
        await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    assert await bench.events(run) == ["run.succeeded"]
    assert len(bench.api.looks) == 1


async def test_a_webhook_during_a_look_leads_to_one_more(bench: Bench):
    run = await bench.started()
    bench.clock.forward(6)
    [watch] = await bench.poll.claim(9)
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.poll.handle(watch)
    assert len(await bench.round(bench.poll)) == 1


@pytest.mark.parametrize("kind", [Kind.TASK, Kind.CREW, Kind.HUMAN])
async def test_a_webhook_brings_a_run_in_doubt_its_execution(bench: Bench, kind: Kind):
    bench.api.kickoff_answers = [InDoubt("reset")]
    run = await bench.started()
    await send(bench, run, kind, {"kickoff_id": "execution-9", "name": "collect"})
    await bench.round(bench.recover)
    bench.api.status_answers = [Succeeded("Found.")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    ended = await bench.now(run)
    assert (ended.state, ended.kickoff_id, bench.api.looks) == (State.SUCCEEDED, "execution-9", ["execution-9"])
    assert len(bench.api.bodies) == 1


async def test_a_webhook_that_names_another_runs_execution_brings_nothing(bench: Bench):
    await bench.started()
    bench.api.kickoff_answers = [InDoubt("reset")]
    second = await bench.started(inputs={"topic": "another"})
    assert await send(bench, second, Kind.TASK, {"kickoff_id": "execution-1"})
    assert (await bench.now(second)).state is State.IN_DOUBT


async def test_a_webhook_that_is_faster_than_the_answer_settles_the_doubt(bench: Bench):
    run = await bench.accepted()

    async def webhook_meanwhile(_: Any) -> None:
        event = {"type": "crew_kickoff_started", "execution_id": "execution-5", "data": {"emission_sequence": 1}}
        await send(bench, run, Kind.STREAM, {"events": [event]})

    bench.api.kickoff_answers, bench.api.meanwhile = [InDoubt("reset")], webhook_meanwhile
    await bench.round(bench.kickoff)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, bench.crew.evidence) == (State.RUNNING, "execution-5", {})


async def test_where_the_answer_came_the_webhook_is_not_needed(bench: Bench):
    run = await bench.accepted()

    async def webhook_meanwhile(_: Any) -> None:
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-5"})

    bench.api.kickoff_answers, bench.api.meanwhile = [Started("execution-5")], webhook_meanwhile
    await bench.round(bench.kickoff)
    assert ((await bench.now(run)).kickoff_id, bench.crew.evidence) == ("execution-5", {})


async def test_a_webhook_of_an_earlier_attempt_is_no_evidence_for_this_one(bench: Bench):
    bench.api.kickoff_answers = [InDoubt("reset")]
    run = await bench.started()
    await send(bench, run, Kind.TASK, {"kickoff_id": "execution-9"}, attempt=2)
    assert (await bench.now(run)).state is State.IN_DOUBT


async def test_a_forged_token_is_refused_unread(bench: Bench):
    run = await bench.started()

    async def never() -> Any:
        raise AssertionError("must not be read")

    forged = tokens.issue(b"another key", tokens.Attempt(run.run_id, 1))
    assert not await bench.hint(forged, Kind.CREW, never)
    assert not await bench.hint("", Kind.CREW, never)


async def test_a_token_of_a_run_that_is_forgotten_is_unknown(bench: Bench):
    async def nothing() -> Any:
        return None

    gone = tokens.issue(KEY, tokens.Attempt("00000000-0000-7000-8000-000000000999", 1))
    assert not await bench.hint(gone, Kind.CREW, nothing)


async def test_looks_are_stretched_once_the_crews_webhooks_have_proved_reliable(bench: Bench):
    for number in range(20):
        run = await bench.started(inputs={"topic": str(number)})
        bench.api.status_answers = [Succeeded("done")]
        await send(bench, run, Kind.CREW, CREW_DONE)
        await bench.round(bench.poll)
    assert bench.crew.trust.earned
    await bench.started(inputs={"topic": "the next"})
    bench.clock.forward(6)
    await bench.round(bench.poll)
    before = len(bench.api.looks)
    bench.clock.forward(30)
    await bench.round(bench.poll)
    assert len(bench.api.looks) == before


async def test_an_end_that_nobody_announced_costs_the_crew_its_trust(bench: Bench):
    bench.crew.trust.announced = 0.85
    await bench.started()
    bench.api.status_answers = [Succeeded("done")]
    bench.clock.forward(66)
    await bench.round(bench.poll)
    assert not bench.crew.trust.earned
