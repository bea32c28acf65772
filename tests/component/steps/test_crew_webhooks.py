"""The crew API's webhooks: they bring lost executions back and make us look, and nothing depends on them."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.crew import webhook_tokens
from bridge.core.crew.responses import InDoubt, NoResponse, NotFound, Running, Started, Succeeded
from bridge.core.crew.webhooks import Kind, TasksDone
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Run, State
from tests.component.steps.conftest import KEY, Bench, with_policy

CREW_DONE = {"kickoff_id": "execution-1", "result": "All about peat.", "result_json": None, "token_usage": {"n": 1}}


def client_token(run: Run, attempt: int = 1) -> str:
    return webhook_tokens.issue(KEY, webhook_tokens.Attempt(run.run_id, attempt))


async def send(bench: Bench, run: Run, kind: Kind, body: Any, attempt: int = 1) -> bool:
    async def read() -> Any:
        return body

    return await bench.webhook(client_token(run, attempt), kind, read)


async def test_every_kickoff_names_webhooks_of_its_own(bench: Bench):
    first, second = await bench.started(), await bench.started(inputs={"topic": "another"})
    bodies = [body["crewWebhookUrl"] for body in bench.api.bodies]
    assert bodies == [f"https://bridge.example.com/amp/{client_token(run)}/crew" for run in (first, second)]
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


async def test_a_status_without_an_answer_lets_no_webhook_end_a_run(bench: Bench):
    """Whoever knew the URL could end a run with a result of their own at the first time-out of a look."""
    run = await bench.started()
    bench.api.status_answers = [NoResponse("HTTP 502"), NoResponse("timeout"), Succeeded("The truth.")]
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-1", "result": "Forged."})
    for _ in range(3):
        await bench.round(bench.poll)
        bench.clock.forward(60)
    assert (await bench.now(run)).outcome.result == "The truth."
    assert await bench.events(run) == ["run.succeeded"]


async def test_where_the_status_is_not_found_the_crews_own_webhook_is_believed(bench: Bench):
    run = await bench.started()
    bench.api.standing_status = NotFound()
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.rounds(bench.poll, 120)
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
    assert len(bench.api.polls) == 1


async def test_a_webhook_during_a_look_leads_to_one_more(bench: Bench):
    run = await bench.started()
    bench.clock.forward(6)
    [tracked] = await bench.poll.claim(9)
    await send(bench, run, Kind.CREW, CREW_DONE)
    await bench.poll.handle(tracked)
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
    assert (ended.state, ended.kickoff_id, bench.api.polls) == (State.SUCCEEDED, "execution-9", ["execution-9"])
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
    assert (found.state, found.kickoff_id, bench.crew.tracker._evidence) == (State.RUNNING, "execution-5", {})


async def test_where_the_answer_came_the_webhook_is_not_needed(bench: Bench):
    run = await bench.accepted()

    async def webhook_meanwhile(_: Any) -> None:
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-5"})

    bench.api.kickoff_answers, bench.api.meanwhile = [Started("execution-5")], webhook_meanwhile
    await bench.round(bench.kickoff)
    assert ((await bench.now(run)).kickoff_id, bench.crew.tracker._evidence) == ("execution-5", {})


async def test_a_webhook_of_an_earlier_attempt_is_no_evidence_for_this_one(bench: Bench):
    bench.api.kickoff_answers = [InDoubt("reset")]
    run = await bench.started()
    await send(bench, run, Kind.TASK, {"kickoff_id": "execution-9"}, attempt=2)
    assert (await bench.now(run)).state is State.IN_DOUBT


async def test_a_forged_token_is_refused_unread(bench: Bench):
    run = await bench.started()

    async def never() -> Any:
        raise AssertionError("must not be read")

    forged = webhook_tokens.issue(b"another key", webhook_tokens.Attempt(run.run_id, 1))
    assert not await bench.webhook(forged, Kind.CREW, never)
    assert not await bench.webhook("", Kind.CREW, never)


async def test_a_token_of_a_run_that_is_forgotten_is_unknown(bench: Bench):
    async def nothing() -> Any:
        return None

    gone = webhook_tokens.issue(KEY, webhook_tokens.Attempt("00000000-0000-7000-8000-000000000999", 1))
    assert not await bench.webhook(gone, Kind.CREW, nothing)


STARTED_EVENT = {"type": "crew_kickoff_started", "execution_id": "execution-1", "data": {"emission_sequence": 1}}


async def webhook_seen(bench: Bench, count: int) -> list[Run]:
    """Runs under way whose start a webhook told."""
    runs = [await bench.started(inputs={"topic": str(number)}) for number in range(count)]
    for run in runs:
        await send(bench, run, Kind.STREAM, {"events": [STARTED_EVENT]})
    return runs


async def test_looks_are_stretched_as_soon_as_webhooks_have_proved_to_reach_us(bench: Bench):
    """Also those that were planned before: of many runs started at once, few need a look before their end."""
    bench.max_running = 99
    await webhook_seen(bench, 40)
    bench.clock.forward(6)
    with capture_logs() as logs:
        await bench.round(bench.poll, room=16)
    assert [line["event"] for line in logs] == ["webhook_reliability_gained"]
    await bench.round(bench.poll)
    polls = len(bench.api.polls)
    bench.clock.forward(40)
    assert await bench.round(bench.poll) == []
    bench.clock.forward(30)
    await bench.round(bench.poll)
    assert (polls, len(bench.api.polls)) == (40, 80)


async def test_the_first_look_at_a_trusted_crews_run_is_stretched_too(bench: Bench):
    bench.crew.webhook_reliability.webhook_seen = 1.0
    await bench.started()
    bench.clock.forward(40)
    assert await bench.round(bench.poll) == []


async def test_runs_that_nothing_was_heard_of_cost_the_crew_its_trust_and_are_looked_at_again_soon(bench: Bench):
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
        await bench.round(bench.poll, room=1)
    assert [line["event"] for line in logs] == ["webhook_reliability_lost"]
    assert len(await bench.round(bench.poll)) == 3


async def test_an_end_that_nobody_announced_costs_the_crew_its_trust(bench: Bench):
    bench.crew.webhook_reliability.webhook_seen, bench.crew.webhook_reliability.completion_signalled = 1.0, 0.85
    run = await bench.started()
    await send(bench, run, Kind.STREAM, {"events": [STARTED_EVENT]})
    bench.api.status_answers = [Succeeded("done")]
    bench.clock.forward(66)
    await bench.round(bench.poll)
    assert not bench.crew.webhook_reliability.reliable


async def test_an_announced_end_that_the_status_does_not_know_yet_is_looked_for_soon(bench: Bench):
    bench.crew.webhook_reliability.webhook_seen = 1.0
    run = await bench.started()
    await send(bench, run, Kind.CREW, {"kickoff_id": "execution-1", "result": "Early."})
    bench.api.status_answers = [Running(), Succeeded("On time.")]
    await bench.round(bench.poll)
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert (await bench.now(run)).state is State.SUCCEEDED


async def test_nothing_is_kept_in_mind_of_a_run_that_is_over(bench: Bench):
    first, second = await webhook_seen(bench, 2)
    await send(bench, first, Kind.CREW, CREW_DONE)
    await bench.apply_command(first.run_id, Cancel(), "client/orders")
    bench.api.status_answers = [Succeeded("done")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    assert await send(bench, second, Kind.CREW, CREW_DONE)
    assert (
        bench.crew.tracker._webhook_seen,
        bench.crew.tracker._completion_signalled,
        len(bench.crew.tracker.queue),
    ) == (
        set(),
        {},
        0,
    )


async def test_a_webhook_whose_body_comes_slowly_leaves_nothing_of_a_run_that_ended_meanwhile(bench: Bench):
    run = await bench.started()

    async def read_slowly() -> Any:
        await bench.apply_command(run.run_id, Cancel(), "client/orders")
        return CREW_DONE

    assert await bench.webhook(client_token(run), Kind.CREW, read_slowly)
    assert (bench.crew.tracker._webhook_seen, bench.crew.tracker._completion_signalled) == (set(), {})


class ReadsEarly:
    """A store whose reader has its run, and hears of it only when `go` is set; what was written since is unknown."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.came, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load(self, run_id: str) -> Run | None:
        run: Run | None = await self._store.load(run_id)
        self.came.set()
        await self.go.wait()
        return run


async def sent_early(bench: Bench, run: Run, kind: Kind, body: Any) -> tuple["asyncio.Task[bool]", asyncio.Event]:
    """A webhook that has read its run and not gone on; setting the event lets it."""
    store = bench.store
    bench.store = early = ReadsEarly(store)
    sending = asyncio.create_task(send(bench, run, kind, body))
    await early.came.wait()
    bench.store = store
    return sending, early.go


async def test_a_webhook_that_read_its_run_before_the_end_leaves_nothing_of_it(bench: Bench):
    run = await bench.started()
    sending, go = await sent_early(bench, run, Kind.CREW, CREW_DONE)
    bench.api.status_answers = [Succeeded("All about peat.")]
    bench.clock.forward(6)
    await bench.round(bench.poll)
    go.set()
    assert await sending
    tracker = bench.crew.tracker
    assert (tracker.webhook_seen(run.run_id), tracker.completion_signalled(run.run_id)) == (False, False)


async def answered_meanwhile(bench: Bench, answer: InDoubt | Started) -> Run:
    """A run whose webhook has read it while the POST was under way, and goes on after the answer is written."""
    run = await bench.accepted()
    begun = []

    async def webhook_meanwhile(_: Any) -> None:
        begun.append(await sent_early(bench, run, Kind.TASK, {"kickoff_id": "execution-5"}))

    bench.api.kickoff_answers, bench.api.meanwhile = [answer], webhook_meanwhile
    await bench.round(bench.kickoff)
    [(sending, go)] = begun
    go.set()
    await sending
    return await bench.now(run)


async def test_a_webhook_that_read_its_run_before_the_answer_was_lost_settles_the_doubt(bench: Bench):
    found = await answered_meanwhile(bench, InDoubt("reset"))
    assert (found.state, found.kickoff_id) == (State.RUNNING, "execution-5")


async def test_a_webhook_that_read_its_run_before_its_answer_leaves_nothing(bench: Bench):
    run = await answered_meanwhile(bench, Started("execution-5"))
    assert bench.crew.tracker.take_evidence(run.run_id) is None


async def test_where_the_status_tells_no_progress_task_webhooks_do(bench: Bench):
    run = await with_policy(bench, extra_events=frozenset({"progress"})).started()
    for name in ("collect", "draft"):
        bench.clock.forward(2)
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": name})
        await bench.round(bench.poll)
    assert (await bench.now(run)).progress == {
        "unit": "task", "completed": 2, "total": None, "current": None, "last": "draft",
    }  # fmt: skip
    deliveries = await bench.store.deliveries_for_run(run.run_id)
    assert len({one.event.event_id for one in deliveries if one.event.type == "run.progress"}) == 2


async def test_of_however_many_task_webhooks_one_number_and_one_name_are_kept(bench: Bench):
    run = await bench.started()
    for _ in range(50):
        await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": "collect"})
    assert bench.crew.tracker._tasks == {run.run_id: TasksDone(50, "collect")}


async def test_a_task_webhook_costs_no_look_where_nobody_wants_progress(bench: Bench):
    run = await bench.started()
    await send(bench, run, Kind.TASK, {"kickoff_id": "execution-1", "name": "collect"})
    await bench.round(bench.poll)
    assert bench.api.polls == []


async def test_after_an_announced_end_the_status_is_polled_again_soon_until_it_confirms_it(bench: Bench):
    run = await bench.started()
    bench.api.standing_status = Running()
    announced_at = bench.clock()
    await send(bench, run, Kind.CREW, CREW_DONE)
    polled = []
    for _ in range(50):
        polled += [round(bench.clock() - announced_at, 1) for _ in await bench.round(bench.poll)]
        bench.clock.forward(0.1)
    assert polled[:5] == pytest.approx([0.0, 0.3, 1.0, 2.0, 4.0], abs=0.11)
