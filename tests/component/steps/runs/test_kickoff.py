"""Kickoffs: the run is marked before the POST, and repeated only if nothing can have started."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import CrewUnavailable, InDoubt, KickoffResponse, NotStarted, Refused, Started
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.model import Run, State
from bridge.steps._run_step import TICK
from tests.component.steps.conftest import KEY, Bench
from tests.fakes import NOW


async def test_starting_is_durable_before_the_api_is_called(bench: Bench):
    run = await bench.accepted()
    seen = []

    async def read_store(_: Any) -> None:
        seen.append(await bench.now(run))

    bench.api.meanwhile = read_store
    await bench.round(bench.kickoff)
    [during] = seen
    assert (during.state, during.attempt, during.sent_at, during.owner) == (State.STARTING, 1, NOW, "me")


async def test_the_body_has_the_inputs_and_the_bridge_ids(bench: Bench):
    run = await bench.accepted(inputs={"pages": 3}, meta={"order": 17})
    await bench.round(bench.kickoff)
    meta = {"order": 17, "bridge_run_id": run.run_id, "bridge_attempt": 1}
    [body] = bench.api.bodies
    assert (body["inputs"], body["meta"]) == ({"pages": "3"}, meta)


async def test_a_started_run_is_tracked(bench: Bench):
    run = await bench.started()
    assert (run.state, run.kickoff_id, run.owner) == (State.RUNNING, "execution-1", "me")
    assert run.run_id in bench.crew.tracker.queue
    assert bench.notified("poll-research")
    assert await bench.events(run) == []


async def test_a_refused_run_fails_and_its_event_is_due(bench: Bench):
    bench.api.kickoff_responses = [Refused("HTTP 422: Missing inputs: region")]
    run = await bench.started()
    assert run.state is State.FAILED
    assert run.run_id not in bench.crew.tracker.queue
    assert await bench.events(run) == ["run.failed"]
    assert bench.notified("deliver-broker")


async def test_a_kickoff_that_did_not_start_is_retried_when_due(bench: Bench):
    bench.api.kickoff_responses = [NotStarted("HTTP 503", after=30.0)]
    run = await bench.started()
    assert (run.state, run.owner) == (State.ACCEPTED, None)
    assert run.due_at is not None
    assert run.due_at >= NOW + 30
    assert await bench.round(bench.kickoff) == []
    bench.clock.moment = run.due_at
    await bench.round(bench.kickoff)
    again = await bench.now(run)
    assert (again.state, again.attempt, len(bench.api.bodies)) == (State.RUNNING, 2, 2)


async def test_an_ambiguous_response_is_never_followed_by_a_second_post(bench: Bench):
    bench.api.kickoff_responses = [InDoubt("timed out")]
    run = await bench.started()
    assert run.state is State.IN_DOUBT
    for _ in range(5):
        bench.clock.forward(10_000)
        for step in (bench.kickoff, bench.recover, bench.in_doubt, bench.housekeeping, bench.poll):
            await bench.round(step)
    assert len(bench.api.bodies) == 1
    assert (await bench.now(run)).state is State.IN_DOUBT


async def test_no_more_runs_are_claimed_than_max_running_permits(bench: Bench):
    bench.max_running = 2
    for _ in range(5):
        await bench.accepted()
    assert len(await bench.round(bench.kickoff)) == 2
    assert await bench.round(bench.kickoff) == []


def at_rate(bench: Bench, per_second: float) -> RateLimiter:
    """The rate of the crew from now on."""
    bench.crews["research"] = replace(bench.crew, rate_limiter=RateLimiter(per_second))
    return bench.crew.rate_limiter


async def test_no_more_runs_are_marked_than_can_be_posted_at_once(bench: Bench):
    """A crash while runs wait for a permit leaves nothing in doubt."""
    at_rate(bench, 1.0)
    first, second = await bench.accepted(), await bench.accepted()
    kickoff = bench.kickoff
    assert len(await bench.round(kickoff)) == 1
    assert await bench.round(kickoff) == []
    assert [(await bench.now(run)).state for run in (first, second)] == [State.RUNNING, State.ACCEPTED]
    bench.clock.forward(1.0)
    await bench.round(kickoff)
    assert (await bench.now(second)).state is State.RUNNING


async def test_without_a_permit_the_store_is_not_asked_and_the_next_claim_waits_for_one(bench: Bench):
    at_rate(bench, 2.0)
    for _ in range(3):
        await bench.accepted()
    spy, kickoff = bench.spy(), bench.kickoff
    pauses = []
    for _ in range(3):
        await bench.round(kickoff)
        pauses.append(kickoff.pause())
    assert (spy.calls.count("claim_accepted"), pauses) == (1, [0.5, 0.5, 0.5])


async def test_while_the_crew_is_backing_off_the_claim_is_tried_every_second(bench: Bench):
    at_rate(bench, 20.0).on_throttled(bench.clock(), bench.clock(), 60.0)
    kickoff = bench.kickoff
    assert (await bench.round(kickoff), kickoff.pause()) == ([], TICK)


async def test_permits_that_no_run_needs_are_returned(bench: Bench):
    rate_limiter = at_rate(bench, 1.0)
    kickoff = bench.kickoff
    assert (await bench.round(kickoff), kickoff.pause()) == ([], TICK)
    assert rate_limiter.acquire(bench.clock()) == 0.0


async def test_permits_of_a_failed_claim_are_returned(bench: Bench):
    rate_limiter = at_rate(bench, 1.0)
    kickoff = bench.kickoff
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.store, "claim_accepted", unavailable)
        with pytest.raises(StoreUnavailable):
            await kickoff.claim(9)
    assert rate_limiter.acquire(bench.clock()) == 0.0


async def unavailable(*_: Any) -> Any:
    raise StoreUnavailable("no connection")


async def test_a_poll_that_was_refused_a_permit_for_a_kickoff_is_made_when_none_starts(bench: Bench):
    rate_limiter, now = at_rate(bench, 1.0), bench.clock()

    async def claim_nothing(*_: Any) -> list[Run]:
        assert rate_limiter.acquire_for_polls(now, 1) == 0
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.store, "claim_accepted", claim_nothing)
        assert await bench.kickoff.claim(9) == []
    assert bench.notified("poll-research")
    assert rate_limiter.acquire_for_polls(now, 1) == 1


@pytest.mark.parametrize(
    ("response", "state", "events"),
    [(Started("k-1"), State.RUNNING, []), (Refused("no"), State.FAILED, ["run.failed"])],
)
async def test_the_response_for_a_run_whose_owner_has_expired_counts(
    bench: Bench, response: KickoffResponse, state: State, events: list[str]
):
    """The process was suspended for so long that it expired; the run is for others to track."""
    run = await bench.accepted()

    async def expire(_: Any) -> None:
        await bench.abandon()

    bench.api.meanwhile, bench.api.kickoff_responses = expire, [response]
    await bench.round(bench.kickoff)
    now = await bench.now(run)
    assert (now.state, now.owner, await bench.events(run)) == (state, None, events)
    assert run.run_id not in bench.crew.tracker.queue


async def test_the_id_of_another_run_is_in_doubt_and_logged(bench: Bench):
    """Two runs would track one execution, and the one that was really started would be lost silently."""
    first = await bench.started()
    bench.api.kickoff_responses = [Started("execution-1")]
    with capture_logs() as logs:
        second = await bench.started(inputs={"topic": "another"})
    assert [(run.state, run.kickoff_id) for run in (await bench.now(first), second)] == [
        (State.RUNNING, "execution-1"),
        (State.IN_DOUBT, None),
    ]
    assert second.run_id not in bench.crew.tracker.queue
    assert [(line["log_level"], line["run_id"]) for line in logs if line["event"] == "kickoff_id_taken"] == [
        ("error", second.run_id)
    ]


async def test_evidence_with_the_execution_of_another_run_leaves_the_run_in_doubt(bench: Bench):
    await bench.started()
    second = await bench.accepted(inputs={"topic": "another"})
    token = webhook_tokens.issue(KEY, webhook_tokens.Attempt(second.run_id, 1))

    async def read() -> Any:
        return {"kickoff_id": "execution-1"}

    async def webhook_meanwhile(_: Any) -> None:
        await bench.webhook(token, Kind.CREW, read)

    bench.api.kickoff_responses, bench.api.meanwhile = [InDoubt("reset")], webhook_meanwhile
    await bench.round(bench.kickoff)
    assert len(await bench.round(bench.inbox)) == 1
    assert (await bench.now(second)).state is State.IN_DOUBT


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (Started("execution-1"), None),
        (Refused("HTTP 422: inputs.card 4111: not a number"), "HTTP 422"),
        (NotStarted("HTTP 429: slow down, card 4111"), "HTTP 429"),
        (CrewUnavailable("HTTP 403: no quota for card 4111"), "HTTP 403"),
        (InDoubt("connection closed"), "connection closed"),
    ],
)
async def test_the_reason_of_a_failed_kickoff_is_logged_without_the_message_of_the_api(
    bench: Bench, response: KickoffResponse, reason: str | None
):
    """The message may quote inputs, which are never logged."""
    bench.api.kickoff_responses = [response]
    with capture_logs() as logs:
        await bench.started()
    logged = [(line["event"], line["reason"]) for line in logs if line["event"] in {"kickoff_answered", "crew_paused"}]
    assert logged == [("kickoff_answered", reason)] + [("crew_paused", reason)] * isinstance(response, CrewUnavailable)
    [answered] = [line for line in logs if line["event"] == "kickoff_answered"]
    assert answered["kickoff_id"] == getattr(response, "kickoff_id", None)
    assert "4111" not in str(logs)


def test_without_signals_runs_are_claimed_every_second(bench: Bench):
    assert bench.kickoff.pause() == 1.0
    assert bench.kickoff.name == "kickoff-research"


async def test_runs_with_large_inputs_wait_until_others_are_posted(bench: Bench):
    for _ in range(4):
        await bench.accepted(inputs={"topic": "x" * 200_000})
    bench.max_kickoff_bytes = 2_500_000
    kickoff = bench.kickoff
    assert bench.notified("kickoff-research")
    first = await kickoff.claim(9)
    assert len(first) == 2
    assert len(await kickoff.claim(9)) == 1, "one is claimed while anything is left"
    assert await kickoff.claim(9) == []
    await kickoff.handle(first[0])
    assert bench.notified("kickoff-research")


async def test_one_second_of_kickoffs_is_in_progress_at_most(bench: Bench):
    """A changed rate applies at once, without waiting for the POSTs in progress."""
    for _ in range(4):
        await bench.accepted()
    kickoff, crew = bench.kickoff, bench.crew
    crew.use(crew.policy, crew.max_running, 2.0, crew.budgets)
    first = await kickoff.claim(9)
    assert len(first) == 2
    assert await kickoff.claim(9) == []
    crew.use(crew.policy, crew.max_running, 3.0, crew.budgets)
    assert len(await kickoff.claim(9)) == 1
    assert bench.notified("kickoff-research")
    await kickoff.handle(first[0])
    assert bench.notified("kickoff-research"), "it has made room for another one"
    assert len(await kickoff.claim(9)) == 1
