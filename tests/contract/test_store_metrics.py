"""What the store reports for the metrics: claims for a POST, ends of runs, commits, and discarded writes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from bridge.adapters.store import SqlStore
from bridge.core.crew.responses import NotStarted, Refused, Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine
from bridge.core.runs.model import Decision, Outcome, State
from bridge.observability.metrics import Counters
from bridge.ports.runs import Conflict
from tests.contract.conftest import Adapter
from tests.fakes import NOW, a_run, applied

POLICY = CrewPolicy()


@pytest.fixture
def counters() -> Counters:
    return Counters(CollectorRegistry())


@pytest.fixture
async def store(adapter: Adapter, counters: Counters) -> AsyncIterator[SqlStore]:
    async with adapter.open(metrics=counters.store) as opened:
        yield opened


def value(counters: Counters, name: str, **labels: str) -> float:
    return counters.registry.get_sample_value(f"kickoff_bridge_{name}", labels) or 0.0


async def test_a_run_is_counted_once_when_it_ends(store: SqlStore, counters: Counters):
    """Later writes to a run that has ended, such as those for its late result, are not counted."""
    ended = partial(value, counters, "runs_ended_total", crew="research")
    await store.accept(a_run())
    [starting] = await store.claim_accepted("research", 1, 9, NOW + 7)
    running = await applied(store, state_machine.on_kickoff(starting, Started("e"), POLICY, NOW + 8))
    assert ended(state="cancelled", error="cancelled") == 0
    cancelled = await applied(store, state_machine.on_cancelled(running, POLICY, NOW + 67))
    await applied(store, Decision(replace(cancelled, due_at=NOW + 99)))
    assert ended(state="cancelled", error="cancelled") == 1
    assert value(counters, "run_duration_seconds_count", crew="research") == 1
    assert value(counters, "run_duration_seconds_sum", crew="research") == 60
    assert value(counters, "run_wait_seconds_sum", crew="research") == 7


async def test_a_run_that_never_had_an_execution_has_no_duration(store: SqlStore, counters: Counters):
    await store.accept(a_run())
    [starting] = await store.claim_accepted("research", 1, 9, NOW)
    await applied(store, state_machine.on_kickoff(starting, Refused("HTTP 422"), POLICY, NOW + 1))
    assert value(counters, "runs_ended_total", crew="research", state="failed", error="refused") == 1
    assert value(counters, "run_duration_seconds_count", crew="research") == 0


async def test_only_the_first_post_ends_the_wait(store: SqlStore, counters: Counters):
    await store.accept(a_run())
    [starting] = await store.claim_accepted("research", 1, 9, NOW + 7)
    await applied(store, state_machine.on_kickoff(starting, NotStarted("HTTP 429"), POLICY, NOW + 8))
    assert await store.claim_accepted("research", 1, 9, NOW + 999)
    assert value(counters, "run_wait_seconds_count", crew="research") == 1
    assert value(counters, "run_wait_seconds_sum", crew="research") == 7


async def test_tokens_are_summed_as_far_as_the_usage_is_sensible(store: SqlStore, counters: Counters):
    usages = [
        {"total_tokens": 30, "prompt_tokens": 20, "completion_tokens": 10, "successful_requests": 1},
        {"total_tokens": 5, "prompt_tokens": -1, "completion_tokens": True, "cached_prompt_tokens": "7"},
        {"total_tokens": 1e300},
        ["total_tokens"],
        None,
    ]
    for number, usage in enumerate(usages, start=1):
        await store.accept(a_run(number))
        [starting] = await store.claim_accepted("research", 1, 9, NOW)
        running = await applied(store, state_machine.on_kickoff(starting, Started(f"e-{number}"), POLICY, NOW))
        outcome = Outcome(result="done", usage=usage)
        await applied(store, state_machine.finish(running, State.SUCCEEDED, outcome, POLICY, NOW))
    tokens = partial(value, counters, "tokens_used_total", crew="research")
    assert [tokens(kind=kind) for kind in ("total", "prompt", "completion", "cached_prompt")] == [35, 20, 10, 0]
    assert value(counters, "runs_ended_total", crew="research", state="succeeded", error="none") == len(usages)


async def test_commits_and_discarded_writes_are_counted(store: SqlStore, counters: Counters):
    before = value(counters, "store_commit_seconds_count")
    run = (await store.accept(a_run())).run
    assert value(counters, "store_commit_seconds_count") == before + 1
    assert await store.apply(Decision(replace(run, version=7))) is Conflict.STALE
    assert value(counters, "stale_writes_total") == 1
