"""The crew API's webhooks: they cause polls and find lost executions, and nothing depends on them."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.adapters.store.queries import inbox
from bridge.core.crew import webhook_tokens
from bridge.core.crew.responses import InDoubt, NoResponse, NotFound, Running, Started, Succeeded
from bridge.core.crew.tasks import ReportedTasks
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import StoreUnavailable
from bridge.core.runs import tracking
from bridge.core.runs.commands import Adopt, Cancel
from bridge.core.runs.model import Run, State, Task
from tests import crew_events
from tests.component.steps.conftest import KEY, Bench, with_policy

CREW_DONE = {"kickoff_id": "execution-1", "result": "All about peat.", "result_json": None, "token_usage": {"n": 1}}


def client_token(run: Run, attempt: int = 1) -> str:
    return webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, attempt))


async def send(bench: Bench, run: Run, kind: Kind, body: Any, attempt: int = 1) -> bool:
    async def read() -> Any:
        return body

    return await bench.webhook(client_token(run, attempt), kind, read)


async def test_every_kickoff_registers_webhooks_of_its_own(bench: Bench):
    first, second = await bench.started(), await bench.started(inputs={"topic": "another"})
    bodies = [body["crewWebhookUrl"] for body in bench.api.bodies]
    assert bodies == [f"https://bridge.example.com/amp/{client_token(run)}/crew" for run in (first, second)]
    assert bench.api.bodies[0]["webhooks"]["url"].endswith("/stream")


async def test_a_crew_webhook_causes_a_poll(bench: Bench):
    run = await bench.started()
    bench.api.status_responses = [Succeeded("All about peat.")]
    assert await bench.round(bench.poll) == []
    assert await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_the_status_takes_precedence_over_a_webhook(bench: Bench):
    run = await bench.started()
    bench.api.status_responses = [Running(), Succeeded("The truth.")]
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-1", "result": "Forged."})
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.RUNNING
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert (await bench.now(run)).outcome.result == "The truth."


async def test_without_a_status_no_webhook_ends_a_run(bench: Bench):
    """Any holder of the URL could end a run with a forged result at the first timeout of a poll."""
    run = await bench.started()
    bench.api.status_responses = [NoResponse("HTTP 502"), NoResponse("timeout"), Succeeded("The truth.")]
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-1", "result": "Forged."})
    for _ in range(3):
        await bench.round(bench.poll)
        bench.clock.forward(60)
    assert (await bench.now(run)).outcome.result == "The truth."
    assert await bench.events(run) == ["run.succeeded"]


async def test_where_the_status_is_not_found_the_crew_webhook_is_accepted(bench: Bench):
    run = await bench.started()
    bench.api.default_status = NotFound()
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.rounds(bench.poll, 120)
    ended = await bench.now(run)
    assert (ended.state, ended.outcome.result, ended.outcome.usage) == (State.SUCCEEDED, "All about peat.", {"n": 1})


async def test_repeated_and_late_webhooks_change_nothing(bench: Bench):
    run = await bench.started()
    bench.api.status_responses = [Succeeded("Once.")]
    for _ in range(3):
        await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.round(bench.poll)
    assert await bench.events(run) == ["run.succeeded"]
    assert len(bench.api.polls) == 1


async def test_a_webhook_during_a_poll_causes_another_poll(bench: Bench):
    run = await bench.started()
    bench.clock.forward(6)
    [tracked] = await bench.poll.claim(9)
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.poll.handle(tracked)
    assert len(await bench.round(bench.poll)) == 1


@pytest.mark.parametrize("kind", [Kind.TASK, Kind.CREW, Kind.HUMAN])
async def test_a_webhook_gives_a_run_in_doubt_its_execution(bench: Bench, kind: Kind):
    bench.api.kickoff_responses = [InDoubt("reset")]
    run = await bench.started()
    await send(bench, run, kind, {"kickoff_id": "execution-9", "name": "collect"})
    await bench.round(bench.recover)
    bench.api.status_responses = [Succeeded("Found.")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    ended = await bench.now(run)
    assert (ended.state, ended.kickoff_id, bench.api.polls) == (State.SUCCEEDED, "execution-9", ["execution-9"])
    assert len(bench.api.bodies) == 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("events", [crew_events.flow_with_crew, crew_events.crew_with_memory])
async def test_of_all_streamed_events_only_those_of_the_execution_itself_name_it(
    bench: Bench, events: Callable[[str, str], list[crew_events.Event]], seed: int
):
    bench.api.kickoff_responses = [InDoubt("reset")]
    run = await with_policy(bench, is_flow=events is crew_events.flow_with_crew).started()
    for event in random.Random(seed).sample(events("execution-9", "inner"), k=6):
        await send(bench, run, Kind.STREAM, {"events": [event]})
    found = await bench.now(run)
    assert found.kickoff_id in {None, "execution-9"}
    await send(bench, run, Kind.STREAM, {"events": events("execution-9", "inner")[-1:]})
    assert (await bench.now(run)).kickoff_id == "execution-9"


def of_an_old_library(events: list[crew_events.Event]) -> list[crew_events.Event]:
    """The events without the member that names their parent."""
    return [
        event | {"data": {name: value for name, value in event["data"].items() if name != "parent_event_id"}}
        for event in events
    ]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("lost", range(6))
async def test_an_inner_execution_that_looks_like_the_run_itself_loses_no_run(bench: Bench, lost: int, old: bool):
    """A child flow in a thread, or of an old library, has no parent; any of the webhooks can be lost."""
    bench.api.kickoff_responses, bench.api.default_status = [InDoubt("reset")], NotFound()
    bench.api.status_by_id = {"execution-9": Running()}
    run = await with_policy(bench, is_flow=True).started()
    events = crew_events.flow_with_threads("execution-9", "inner")
    events = of_an_old_library(events) if old else events
    for event in (*events[:lost], *events[lost + 1 :]):
        await send(bench, run, Kind.STREAM, {"events": [event]})
        await bench.round(bench.recover)
        await bench.rounds(bench.poll, 20)
    bench.api.status_by_id = {"execution-9": Succeeded("Done.")}
    await bench.round(bench.recover)
    await bench.rounds(bench.poll, 120)
    ended = await bench.now(run)
    assert (ended.state, ended.kickoff_id) == (State.SUCCEEDED, "execution-9")


async def test_a_slow_poll_of_a_wrong_execution_does_not_replace_the_right_one(bench: Bench):
    """The run was then polled with the wrong id, and after a minute not at all: it never ended."""
    bench.api.kickoff_responses, bench.api.default_status = [InDoubt("reset")], NotFound()
    run = await with_policy(bench, is_flow=True).started()
    *_, inner_end, _, end = crew_events.flow_with_threads("execution-9", "inner")
    await send(bench, run, Kind.STREAM, {"events": [inner_end]})
    await bench.round(bench.recover)
    answers = {name: asyncio.get_running_loop().create_future() for name in ("inner", "execution-9")}
    bench.api.slow = answers
    [wrong] = await bench.poll.claim(9)
    first = asyncio.create_task(bench.poll.handle(wrong))
    await send(bench, run, Kind.STREAM, {"events": [end]})
    await bench.round(bench.recover)
    [right] = await bench.poll.claim(9)
    second = asyncio.create_task(bench.poll.handle(right))
    answers["inner"].set_result(NotFound())
    await first
    answers["execution-9"].set_result(Running())
    await second
    bench.api.slow, bench.api.status_by_id = {}, {"execution-9": Succeeded("Done.")}
    await bench.rounds(bench.poll, 120)
    assert ((await bench.now(run)).state, bench.api.polls.count("inner")) == (State.SUCCEEDED, 1)


async def test_the_state_id_that_a_request_sets_is_not_adopted(bench: Bench):
    bench.api.kickoff_responses = [InDoubt("reset")]
    own = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
    run = await with_policy(bench, is_flow=True).started(inputs={"topic": "tides", "id": own})
    start = crew_events.flow_with_crew("execution-9")[0]
    start["data"]["inputs"]["id"] = own
    await send(bench, run, Kind.STREAM, {"events": [start]})
    assert (await bench.now(run)).kickoff_id == "execution-9"


async def test_a_run_is_not_lost_with_the_id_that_a_flow_has_after_a_pause(bench: Bench):
    """If the request set the id of the state, the end after a pause names no kickoff id."""
    bench.api.kickoff_responses, bench.api.default_status = [InDoubt("reset")], NotFound()
    own = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
    run = await with_policy(bench, is_flow=True).started(inputs={"topic": "tides", "id": own})
    end = crew_events.flow_with_pause("execution-9")[-1]
    end["data"]["state"]["id"] = own
    await send(bench, run, Kind.STREAM, {"events": [end]})
    await bench.round(bench.recover)
    await bench.rounds(bench.poll, 120)
    held = await bench.now(run)
    assert (held.state, held.kickoff_id, len(bench.api.bodies)) == (State.IN_DOUBT, None, 1)


@pytest.mark.parametrize("kind", [Kind.STREAM, Kind.CREW, Kind.TASK])
async def test_a_wrong_id_from_an_operator_is_corrected_by_a_webhook(bench: Bench, kind: Kind):
    bench.api.kickoff_responses = [InDoubt("reset")]
    run = await bench.started()
    bench.api.status_responses = [NotFound()]
    await bench.apply_command(run.run_id, Adopt("wrong", force=True), "client/ops")
    await bench.round(bench.recover)
    stream = {"events": crew_events.crew_with_memory("right")[:1]}
    await send(bench, run, kind, stream if kind is Kind.STREAM else {"kickoff_id": "right", "name": "collect"})
    corrected = await bench.now(run)
    assert (corrected.state, corrected.kickoff_id, corrected.unverified) == (State.RUNNING, "right", False)
    bench.api.polls.clear()
    bench.api.status_responses = [Succeeded("Found.")]
    await bench.round(bench.recover)
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert ((await bench.now(run)).outcome.result, bench.api.polls) == ("Found.", ["right"])


async def test_an_end_that_names_the_execution_of_a_run_in_doubt_also_causes_polls(bench: Bench):
    bench.api.kickoff_responses, bench.api.default_status = [InDoubt("reset")], Running()
    run = await bench.started()
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-9"})
    await bench.round(bench.recover)
    bench.clock.forward(1)
    await bench.round(bench.inbox)
    assert await polls_after(bench, bench.clock()) == pytest.approx([0.0, 0.3, 1.0, 2.0, 4.0], abs=0.11)
    assert await bench.round(bench.inbox) == []


async def test_of_two_webhooks_that_name_an_execution_at_once_the_end_still_counts(bench: Bench):
    run = await bench.accepted()

    async def webhooks_meanwhile(_: Any) -> None:
        await send(bench, run, Kind.STREAM, {"events": crew_events.crew_with_memory("execution-9")[:1]})
        await send(bench, run, Kind.CREW, CREW_DONE | {"kickoff_id": "execution-9"})

    bench.api.kickoff_responses, bench.api.meanwhile = [InDoubt("reset")], webhooks_meanwhile
    await bench.round(bench.kickoff)
    step = bench.inbox
    await asyncio.gather(*(step.handle(entry) for entry in await step.claim(9)))
    await bench.round(bench.recover)
    bench.clock.forward(1)
    await bench.round(bench.inbox)
    assert bench.crew.tracker.known(run.run_id).webhook_result == Succeeded("All about peat.", None, {"n": 1})


async def test_a_webhook_with_the_execution_of_another_run_is_ignored(bench: Bench):
    await bench.started()
    bench.api.kickoff_responses = [InDoubt("reset")]
    second = await bench.started(inputs={"topic": "another"})
    assert await send(bench, second, Kind.TASK, {"kickoff_id": "execution-1"})
    assert (await bench.now(second)).state is State.IN_DOUBT


async def test_a_webhook_before_the_kickoff_response_avoids_the_doubt(bench: Bench):
    run = await bench.accepted()

    async def webhook_meanwhile(_: Any) -> None:
        event = {"type": "crew_kickoff_started", "execution_id": "execution-5", "data": {"emission_sequence": 1}}
        await send(bench, run, Kind.STREAM, {"events": [event]})

    bench.api.kickoff_responses, bench.api.meanwhile = [InDoubt("reset")], webhook_meanwhile
    await bench.round(bench.kickoff)
    await bench.round(bench.inbox)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id) == (State.RUNNING, "execution-5")


async def test_with_a_kickoff_response_the_webhook_is_not_needed(bench: Bench):
    run = await bench.accepted()

    async def webhook_meanwhile(_: Any) -> None:
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-5"})

    bench.api.kickoff_responses, bench.api.meanwhile = [Started("execution-5")], webhook_meanwhile
    await bench.round(bench.kickoff)
    await bench.round(bench.inbox)
    assert (await bench.now(run)).kickoff_id == "execution-5"
    assert await bench.round(bench.inbox) == []


async def test_a_forged_token_is_refused_without_reading_the_body(bench: Bench):
    run = await bench.started()

    async def never() -> Any:
        raise AssertionError("must not be read")

    forged = webhook_tokens.issue(b"another key", webhook_tokens.Attempt(run.run_id, 1))
    assert not await bench.webhook(forged, Kind.CREW, never)
    assert not await bench.webhook("", Kind.CREW, never)


async def test_the_token_of_a_deleted_run_is_unknown(bench: Bench):
    async def nothing() -> Any:
        return None

    gone = webhook_tokens.issue(KEY, webhook_tokens.Attempt("00000000-0000-7000-8000-000000000999", 1))
    assert not await bench.webhook(gone, Kind.CREW, nothing)


STARTED_EVENT = {"type": "crew_kickoff_started", "execution_id": "execution-1", "data": {"emission_sequence": 1}}


async def webhook_seen(bench: Bench, count: int) -> list[Run]:
    """Running runs whose start a webhook reported."""
    runs = [await bench.started(inputs={"topic": str(number)}) for number in range(count)]
    for run in runs:
        await send(bench, run, Kind.STREAM, {"events": [STARTED_EVENT]})
    return runs


async def test_polls_move_to_the_fallback_interval_once_webhooks_are_reliable(bench: Bench):
    """This includes polls planned earlier: of many runs started at once, few are polled before their end."""
    bench.max_running = 99
    await webhook_seen(bench, 40)
    bench.clock.forward(6)
    with capture_logs() as logs:
        await bench.round(bench.poll, limit=16)
    assert [line["event"] for line in logs] == ["webhook_reliability_gained"]
    await bench.round(bench.poll)
    polls = len(bench.api.polls)
    bench.clock.forward(40)
    assert await bench.round(bench.poll) == []
    bench.clock.forward(30)
    await bench.round(bench.poll)
    assert (polls, len(bench.api.polls)) == (40, 80)


async def test_the_first_poll_of_a_crew_with_reliable_webhooks_is_at_the_fallback_interval(bench: Bench):
    bench.crew.webhook_reliability.webhook_seen = 1.0
    await bench.started()
    bench.clock.forward(40)
    assert await bench.round(bench.poll) == []


async def test_runs_without_webhooks_make_a_crew_unreliable_and_are_polled_soon(bench: Bench):
    bench.max_running = 99
    bench.crew.webhook_reliability.webhook_seen = 0.8
    await webhook_seen(bench, 3)
    bench.clock.forward(50)
    await bench.started(inputs={"topic": "in silence"})
    assert await bench.round(bench.poll) == []
    bench.clock.forward(20)
    await bench.round(bench.poll)
    assert bench.crew.webhook_reliability.reliable
    bench.clock.forward(50)
    with capture_logs() as logs:
        await bench.round(bench.poll, limit=1)
    assert [line["event"] for line in logs] == ["webhook_reliability_lost"]
    assert len(await bench.round(bench.poll)) == 3


async def test_a_silent_end_makes_a_crew_unreliable(bench: Bench):
    bench.crew.webhook_reliability.webhook_seen, bench.crew.webhook_reliability.completion_signalled = 1.0, 0.85
    run = await bench.started()
    await send(bench, run, Kind.STREAM, {"events": [STARTED_EVENT]})
    bench.api.status_responses = [Succeeded("done")]
    bench.clock.forward(66)
    await bench.round(bench.poll)
    assert not bench.crew.webhook_reliability.reliable


async def test_after_an_announced_end_that_the_status_does_not_confirm_polls_are_frequent(bench: Bench):
    bench.crew.webhook_reliability.webhook_seen = 1.0
    run = await bench.started()
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-1", "result": "Early."})
    bench.api.status_responses = [Running(), Succeeded("On time.")]
    await bench.round(bench.poll)
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


def has_state(bench: Bench, run: Run) -> bool:
    tracker = bench.crew.tracker
    return tracker.known(run.run_id).webhook_seen or tracker.known(run.run_id).completion_signalled


async def test_no_state_is_kept_for_an_ended_run(bench: Bench):
    first, second = await webhook_seen(bench, 2)
    await send(bench, first, Kind.CREW, CREW_DONE)
    await bench.apply_command(first.run_id, Cancel(), "client/orders")
    bench.api.status_responses = [Succeeded("done")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert await send(bench, second, Kind.CREW, CREW_DONE)
    assert len(bench.crew.tracker) == 0
    assert not any(has_state(bench, run) for run in (first, second))


async def test_a_slow_webhook_body_leaves_no_state_of_a_run_that_ended_meanwhile(bench: Bench):
    run = await bench.started()

    async def read_slowly() -> Any:
        await bench.apply_command(run.run_id, Cancel(), "client/orders")
        return CREW_DONE

    assert await bench.webhook(client_token(run), Kind.CREW, read_slowly)
    assert not has_state(bench, run)


async def test_a_webhook_handled_after_the_end_leaves_no_state(bench: Bench):
    run = await bench.started()

    async def read() -> Any:
        return CREW_DONE

    assert await bench.receive.crew_webhook(client_token(run), Kind.CREW, read)
    [entry] = await (step := bench.inbox).claim(9)
    bench.api.status_responses = [Succeeded("All about peat.")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    await step.handle(entry)
    assert not has_state(bench, run)
    assert await bench.round(bench.inbox) == []


async def test_a_result_in_a_webhook_survives_the_process(bench: Bench):
    """The API forgot the execution, so the webhook is the only proof of what was paid for."""
    run = await bench.started()
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.abandon()
    following = bench.another()
    await following.store.cluster.join(bench.clock())
    await following.round(following.recover)
    await following.round(following.inbox)
    following.api.default_status = NotFound()
    await following.rounds(following.poll, 120)
    ended = await bench.now(run)
    assert (ended.state, ended.outcome.result) == (State.SUCCEEDED, "All about peat.")


async def test_results_of_runs_that_are_not_tracked_delay_no_other_webhook(bench: Bench):
    """Its deferral ends in up to an hour, and a claim has limited limit."""
    deferred = await bench.started()
    await bench.poll.quarantine(tracking.tracked_from_run(deferred, bench.policy, bench.clock()))
    await send(bench, deferred, Kind.CREW, CREW_DONE)
    run = await bench.started()

    async def read() -> Any:
        return CREW_DONE

    bench.clock.forward(0.5)
    assert await bench.receive.crew_webhook(client_token(run), Kind.CREW, read)
    await bench.round(bench.inbox, limit=1)
    assert bench.crew.tracker.known(run.run_id).completion_signalled
    await bench.rounds(bench.recover, 10)
    await bench.rounds(bench.inbox, 10)
    assert bench.crew.tracker.known(deferred.run_id).completion_signalled


async def test_webhooks_beyond_the_limit_of_a_run_are_discarded(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox, "MAX_PER_RUN", 4)
    run = await bench.left_starting()
    for _ in range(2):
        assert await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1"})
    with capture_logs() as logs, pytest.raises(StoreUnavailable):
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1"})
    assert [line["event"] for line in logs] == ["crew_webhook_discarded"]


async def test_without_progress_in_the_status_task_webhooks_report_it(bench: Bench):
    run = await with_policy(bench, optional_events=frozenset({"progress"})).started()
    for name in ("collect", "draft"):
        bench.clock.forward(2)
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": name})
        await bench.round(bench.poll)
    assert (await bench.now(run)).progress == {
        "unit": "task", "completed": 2, "total": None, "current": None, "last": "draft",
    }  # fmt: skip
    deliveries = await bench.store.queries.deliveries_for_run(run.run_id)
    assert len({one.event.event_id for one in deliveries if one.event.type == "run.progress"}) == 2


async def test_progress_from_task_webhooks_continues_after_a_restart(bench: Bench):
    run = await bench.started()
    for name in ("collect", "draft"):
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": name})
        bench.clock.forward(6)
        await bench.round(bench.poll)
    await bench.abandon()
    following = bench.another()
    await following.store.cluster.join(bench.clock())
    await following.rounds(following.recover, 1)
    await send(following, run, Kind.TASK, {"kickoff_id": "execution-1", "name": "verdict"})
    await following.rounds(following.poll, 6)
    progress = (await bench.now(run)).progress
    assert (progress["completed"], progress["last"]) == (3, "verdict")


async def test_of_any_number_of_task_webhooks_one_count_and_one_name_are_kept(bench: Bench):
    run = await bench.started()
    for _ in range(50):
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": "collect"})
    await bench.rounds(bench.poll, 6)
    progress = (await bench.now(run)).progress
    assert progress is not None
    assert (progress["completed"], progress["last"]) == (50, "collect")


async def test_a_task_webhook_causes_no_poll_if_progress_is_not_requested(bench: Bench):
    run = await bench.started()
    await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": "collect"})
    await bench.round(bench.poll)
    assert bench.api.polls == []


async def polls_after(bench: Bench, signalled_at: float) -> list[float]:
    """The seconds at which the status was polled in the next five seconds."""
    polled = []
    for _ in range(50):
        polled += [round(bench.clock() - signalled_at, 1) for _ in await bench.round(bench.poll)]
        bench.clock.forward(0.1)
    return polled


@pytest.mark.parametrize("reliable", [False, True])
async def test_after_an_announced_end_the_status_is_polled_soon_until_it_confirms_it(bench: Bench, reliable: bool):
    """This applies regardless of `min_interval`, and if the webhooks are so reliable that polls are rare."""
    bench.crew.webhook_reliability.webhook_seen = float(reliable)
    run = await with_policy(bench, poll_min_interval=30.0).started()
    bench.api.default_status = Running()
    await send(bench, run, Kind.CREW, CREW_DONE)
    assert await polls_after(bench, bench.clock()) == pytest.approx([0.0, 0.3, 1.0, 2.0, 4.0], abs=0.11)


async def test_an_announced_end_is_polled_before_other_runs(bench: Bench):
    """If more polls are due than the rate permits, a run that was polled a moment ago seemed least likely to end."""
    bench.max_running, bench.api.default_status = 9, Running()
    runs = [await bench.started(inputs={"topic": str(number)}) for number in range(9)]
    bench.clock.forward(30)
    await send(bench, runs[4], Kind.CREW, CREW_DONE)
    await bench.round(bench.poll, limit=1)
    for wait in (0.3, 0.7, 1.0, 2.0):
        bench.clock.forward(wait)
        await bench.round(bench.poll, limit=1)
    assert bench.api.polls == [runs[4].kickoff_id] * 5


async def test_an_end_announced_during_the_post_is_handled_as_soon_as_the_post_is_answered(bench: Bench):
    run = await bench.accepted()

    async def webhook_meanwhile(_: Any) -> None:
        await send(bench, run, Kind.CREW, CREW_DONE)
        bench.notified("webhook-inbox")
        bench.clock.forward(5)

    bench.api.meanwhile, bench.api.default_status = webhook_meanwhile, Running()
    await bench.round(bench.kickoff)
    assert bench.notified("webhook-inbox")
    await bench.round(bench.inbox)
    assert await polls_after(bench, bench.clock()) == pytest.approx([0.0, 0.3, 1.0, 2.0, 4.0], abs=0.11)


@pytest.mark.parametrize(
    ("events", "is_flow"),
    [(crew_events.flow_with_crew, True), (crew_events.crew_with_memory, False), (crew_events.failing_flow, True)],
)
async def test_only_the_end_of_the_execution_itself_causes_a_poll(
    bench: Bench, events: Callable[[str], list[crew_events.Event]], is_flow: bool
):
    """Every agent, and each access to a memory, is a flow that ends as well."""
    run = await with_policy(bench, is_flow=is_flow).started()
    *before, end = events("execution-1")
    for event in before:
        await send(bench, run, Kind.STREAM, {"events": [event]})
        assert await bench.round(bench.poll) == []
    await send(bench, run, Kind.STREAM, {"events": [end]})
    assert len(await bench.round(bench.poll)) == 1


async def test_every_end_of_an_execution_is_subscribed_to(bench: Bench):
    await bench.started()
    assert {"crew_kickoff_completed", "crew_kickoff_failed", "flow_finished", "flow_failed"} <= set(
        bench.api.bodies[0]["webhooks"]["events"]
    )


# Tasks ------------------------------------------------------------------------------------------------------------

COLLECT = {"kickoff_id": "execution-1", "name": "collect", "agent": "Researcher", "output": "1. ..."}
VERDICT = {"kickoff_id": "execution-1", "name": "verdict", "agent": "Judge", "output": {"score": 81}}


async def final_event(bench: Bench, run: Run) -> Any:
    deliveries = await bench.store.queries.deliveries_for_run(run.run_id)
    [event] = await bench.store.queries.load_events([deliveries[-1].event.event_id])
    return json.loads(event.body)["data"]


async def test_the_tasks_of_webhooks_are_stored_and_published(bench: Bench):
    """Only the webhooks report the outputs of all tasks; they were discarded."""
    run = await bench.started()
    await send(bench, run, Kind.TASK, COLLECT)
    bench.clock.forward(2)
    for _ in range(2):  # a webhook can arrive twice
        await send(bench, run, Kind.TASK, VERDICT)
    assert bench.api.polls == []
    await bench.abandon()
    assert [task.name for task in (await bench.now(run)).tasks] == ["collect", "verdict"]
    await bench.round(bench.recover)
    bench.api.status_responses = [Succeeded("Done.")]
    bench.clock.forward(60)
    await bench.round(bench.poll)
    assert (await final_event(bench, run))["tasks"] == [
        {"name": "collect", "agent": "Researcher", "output": "1. ...", "finished_at": "2027-01-15T08:00:00.000Z"},
        {"name": "verdict", "agent": "Judge", "output": {"score": 81}, "finished_at": "2027-01-15T08:00:02.000Z"},
    ]


async def test_a_task_that_finishes_during_the_post_is_stored_after_it(bench: Bench):
    async def finish(body: Any) -> None:
        await send(bench, run, Kind.TASK, COLLECT)

    bench.api.meanwhile = finish
    run = await bench.accepted()
    await bench.round(bench.kickoff)
    await bench.round(bench.inbox)
    assert [task.name for task in (await bench.now(run)).tasks] == ["collect"]


async def test_a_task_of_a_run_in_doubt_is_stored_with_its_execution(bench: Bench):
    bench.api.kickoff_responses = [InDoubt("reset")]
    run = await bench.started()
    await send(bench, run, Kind.TASK, COLLECT)
    found = await bench.now(run)
    assert (found.kickoff_id, [task.name for task in found.tasks]) == ("execution-1", ["collect"])


@pytest.mark.parametrize("body", [None, [], "text", {"kickoff_id": "execution-1", "output": None}])
async def test_a_task_without_content_does_no_harm(bench: Bench, body: Any):
    run = await bench.started()
    await send(bench, run, Kind.TASK, body)
    assert [task.output for task in (await bench.now(run)).tasks] in ([], [None])


async def test_a_poll_adds_the_tasks_that_the_status_reports(bench: Bench):
    run = await bench.started()
    await send(bench, run, Kind.TASK, COLLECT)
    last = ReportedTasks((Task("verdict", "Judge", "go"),))
    bench.api.status_responses = [Running({"completed": 2}, last), Succeeded("go", tasks=last)]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert [task.name for task in (await bench.now(run)).tasks] == ["collect", "verdict"]
    bench.clock.forward(60)
    await bench.round(bench.poll)
    assert [task["name"] for task in (await final_event(bench, run))["tasks"]] == ["collect", "verdict"]


@pytest.mark.parametrize("kind", [Kind.TASK, Kind.CREW])
async def test_a_webhook_of_an_attempt_that_a_restored_store_does_not_know_adopts_the_execution(
    bench: Bench, kind: Kind
):
    """The store is a backup, and the run was started after it. It would be started again once it is released."""
    run = await bench.accepted()
    assert await bench.store.queries.hold_accepted(bench.clock()) == 1

    assert await send(bench, run, kind, CREW_DONE)
    found = await bench.now(run)
    assert (found.state, found.kickoff_id, found.attempt) == (State.RUNNING, "execution-1", 1)
    assert await bench.store.queries.release(None, None, "client/ops", bench.clock()) == 0
    await bench.round(bench.kickoff)
    assert bench.api.bodies == []
