"""What runs wait for, as the HTTP API and the command line show it."""

from dataclasses import replace

from bridge.core.crew.responses import CrewUnavailable, NotStarted
from bridge.core.runs.budget import Budget, Budgets
from bridge.core.runs.model import Run
from bridge.core.runs.waiting import Reason
from bridge.ports.queries import RunFilter
from bridge.steps.runs.waiting import ExplainWaiting
from tests.component.steps.conftest import Bench
from tests.fakes import NOW, Spy


async def reasons(bench: Bench, *runs: Run) -> list[Reason | None]:
    """The reasons of these runs, as stored now."""
    found = await bench.steps.explain_waiting([await bench.now(run) for run in runs])
    return [found[run.run_id].reason if run.run_id in found else None for run in runs]


async def test_runs_beyond_max_running_wait_for_a_slot(bench: Bench):
    bench.max_running = 2
    started = [await bench.started(inputs={"topic": str(number)}) for number in range(2)]
    last = await bench.accepted()
    assert await bench.round(bench.kickoff) == []
    assert await reasons(bench, *started, last) == [None, None, Reason.SLOT]


async def test_a_spent_budget_delays_runs_until_its_oldest_start_no_longer_counts(bench: Bench):
    bench.crews["research"] = replace(bench.crew, budgets=Budgets(Budget(2, 3600.0)))
    await bench.started()
    bench.clock.forward(60)
    await bench.started(inputs={"topic": "second"})
    last = await bench.accepted(inputs={"topic": "third"})
    waiting = (await bench.steps.explain_waiting([last]))[last.run_id]
    assert (waiting.reason, waiting.until) == (Reason.BUDGET, NOW + 3600.0)


async def test_a_paused_crew_is_named_with_its_response_and_without_text_of_the_api(bench: Bench):
    bench.api.kickoff_responses = [CrewUnavailable("HTTP 401: token abc is unknown")]
    first = await bench.started()
    second = await bench.accepted(inputs={"topic": "another"})
    found = await bench.steps.explain_waiting([await bench.now(run) for run in (first, second)])
    assert [found[run.run_id].reason for run in (first, second)] == [Reason.CREW_PAUSED] * 2
    assert found[second.run_id].detail == "the crew refuses our token: HTTP 401 since 2027-01-15 08:00 UTC"


async def test_calls_that_the_crew_refuses_delay_its_runs(bench: Bench):
    bench.api.kickoff_responses = [NotStarted("HTTP 429", 30.0)]
    refused = await bench.started()
    second = await bench.accepted(inputs={"topic": "another"})
    bench.crew.rate_limiter.on_throttled(NOW, NOW, 30.0)
    assert await reasons(bench, refused, second) == [Reason.RETRY, Reason.RATE_LIMITED]


async def test_a_list_reads_the_limits_once_for_all_its_runs(bench: Bench):
    bench.crew_names = ("research", "triage")
    for number in range(30):
        await bench.accepted(inputs={"topic": str(number)})
    listed = (await bench.store.queries.find_runs(RunFilter())).items
    assert len(listed) == 30
    spy = Spy(bench.store.queries)
    await ExplainWaiting(bench.crews, spy, bench.clock)(listed)
    assert spy.calls == ["usage"]


async def test_without_accepted_runs_nothing_is_read(bench: Bench):
    run = await bench.started()
    spy = Spy(bench.store.queries)
    assert await ExplainWaiting(bench.crews, spy, bench.clock)([run]) == {}
    assert spy.calls == []


async def test_a_crew_that_no_process_serves_is_named(bench: Bench):
    run = await bench.accepted()
    elsewhere = ExplainWaiting({}, bench.store.queries, bench.clock)
    assert await elsewhere([run]) == {}
    moved = replace(run, request=replace(run.request, crew="removed"))
    assert (await elsewhere([moved]))[run.run_id].reason is Reason.CREW_NOT_CONFIGURED
