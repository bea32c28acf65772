"""Every fault of the crew API, many times each, on kickoffs and on polls.

The real client, steps, and store against the sandbox over real sockets. The sandbox's ledger is the evidence: a run is
POSTed once, and again only where the first POST certainly started nothing. `BRIDGE_TEST_REPEATS` sets how many runs
meet each fault (`make proofs` uses 50).
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.adapters.crew_api import LIMITS, HttpCrewApi, crew_sessions
from bridge.adapters.store import database, open_store
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import (
    CrewUnavailable,
    InDoubt,
    KickoffResponse,
    NotStarted,
    Refused,
    Started,
    StatusResponse,
)
from bridge.core.runs.model import Envelope, Run, State
from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.component.steps.conftest import Bench as StepBench
from tests.crew_api_faults import CASES, ONLY_ON_POLLS, TRACKED, Case
from tests.fakes import NOW, a_run

REPEATS = int(os.environ.get("BRIDGE_TEST_REPEATS", "3"))
AT_ONCE = 10
FAST = replace(LIMITS, kickoff=1.5, status=1.5, fast_refusal=0.7, response=1024 * 1024)
"""Short enough for a test, and long enough for a busy machine."""

TRIED_AGAIN = (NotStarted, CrewUnavailable)
STATES: dict[type[KickoffResponse], State] = {
    Refused: State.FAILED,
    CrewUnavailable: State.ACCEPTED,
    NotStarted: State.ACCEPTED,
    InDoubt: State.IN_DOUBT,
    Started: State.RUNNING,
}


class RecordingApi:
    """Wraps a crew API and records the classes of its responses."""

    def __init__(self, api: HttpCrewApi) -> None:
        self.api = api
        self.seen: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.api, name)

    async def acquire(self) -> None:
        """Return at once: pauses after refusals take real seconds, and are tested elsewhere."""

    async def kickoff(self, body: dict[str, Any], traceparent: str | None = None) -> KickoffResponse:
        response = await self.api.kickoff(body, traceparent)
        self.seen[type(response).__name__] += 1
        return response

    async def status(self, kickoff_id: str) -> StatusResponse:
        response = await self.api.status(kickoff_id)
        self.seen[type(response).__name__] += 1
        return response


@dataclass(kw_only=True)
class Bench(StepBench):
    """The steps of one crew on a real store and a real client, with a manual clock."""

    url: str
    api_at: Callable[[str], HttpCrewApi]
    session: aiohttp.ClientSession

    async def inject(self, on: str, rule: dict[str, Any]) -> None:
        async with self.session.post(f"{self.url}/_faults", json={"on": on, "times": None, **rule}) as response:
            assert response.status == 200, await response.text()

    async def clear_faults(self) -> None:
        async with self.session.delete(f"{self.url}/_faults"):
            pass

    async def all_accepted(self, count: int) -> list[Run]:
        runs = [a_run(number, inputs={"topic": str(number)}) for number in range(1, count + 1)]
        return [(await self.store.accept(replace(run, envelope=Envelope("test")))).run for run in runs]

    async def posts(self) -> Counter[str]:
        """POSTs per run that reached the sandbox."""
        async with self.session.get(f"{self.url}/_ledger") as response:
            entries = (await response.json())["kickoffs"]
        return Counter(entry["meta"]["bridge_run_id"] for entry in entries if entry["meta"])

    async def states(self, runs: Sequence[Run]) -> Counter[State]:
        found = [await self.store.load(run.run_id) for run in runs]
        return Counter(run.state for run in found if run is not None)

    async def round(self, step: Any, limit: int = 99) -> Sequence[Any]:
        items: Sequence[Any] = await step.claim(limit)
        for start in range(0, len(items), AT_ONCE):
            await asyncio.gather(*map(step.handle, items[start : start + AT_ONCE]))
        return items

    async def until_nothing_waits(self, count: int) -> None:
        """Advance the clock far enough, without faults, that every retry has been made."""
        for _ in range(count + 2):
            self.clock.forward(3600)
            await self.probe.handle(self.crew)
            await self.round(self.kickoff, count)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        settings = SandboxSettings(run_time=parse_run_time("fixed:3600"))
        url = await stack.enter_async_context(running(settings))
        store = await stack.enter_async_context(
            open_store(database(f"sqlite:///{tmp_path}/bridge.db"), "me", NOW, migrate=True)
        )
        sessions = await stack.enter_async_context(crew_sessions(FAST))

        def api_at(url: str) -> HttpCrewApi:
            return HttpCrewApi(url, settings.token, RateLimiter(), sessions, time.time, FAST)

        api = RecordingApi(api_at(url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Bench(store, max_running=2 * REPEATS + 2, api=api, webhooks=None, url=url, api_at=api_at, session=session)


async def track(bench: Bench, kickoff_id: str) -> None:
    """A run with this execution."""
    await bench.store.accept(a_run(0))
    await bench.inject("kickoff", {"do": "wrong_id", "id": kickoff_id})
    await bench.round(bench.kickoff, 1)
    await bench.clear_faults()
    bench.api.seen.clear()


def test_there_are_28_faults() -> None:
    assert len({case.name for case in CASES}) == 28


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_faulty_kickoff_response_is_classified_and_never_posted_twice_by_mistake(
    bench: Bench, case: Case
) -> None:
    await track(bench, TRACKED)
    runs = await bench.all_accepted(REPEATS)
    await bench.inject("kickoff", case.rule)
    await bench.round(bench.kickoff, REPEATS)
    expected = "Started" if case.rule.get("id") == TRACKED else case.kickoff.__name__
    assert bench.api.seen == {expected: REPEATS}
    assert await bench.states(runs) == {STATES[case.kickoff]: REPEATS}

    await bench.clear_faults()
    await bench.until_nothing_waits(REPEATS)
    posts = await bench.posts()
    again = issubclass(case.kickoff, TRIED_AGAIN)
    assert await bench.states(runs) == {State.RUNNING if again else STATES[case.kickoff]: REPEATS}
    assert {posts[run.run_id] for run in runs} <= ({2} if again else {0, 1})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_faulty_poll_response_is_classified_and_ends_no_run(bench: Bench, case: Case) -> None:
    runs = await bench.all_accepted(REPEATS)
    await bench.round(bench.kickoff, REPEATS)
    bench.api.seen.clear()
    await bench.inject("status", ONLY_ON_POLLS.get(case.name, case.rule))
    bench.clock.forward(6)
    await bench.round(bench.poll, REPEATS)
    assert bench.api.seen == {case.poll.__name__: REPEATS}
    assert await bench.states(runs) == {State.RUNNING: REPEATS}
    assert len(bench.crew.tracker.queue) == REPEATS
    assert bench.crew.breaker.is_open is (case.poll is CrewUnavailable)
    assert set((await bench.posts()).values()) == {1}


async def test_an_unsent_kickoff_is_sent_later_and_once(bench: Bench) -> None:
    """The address of the crew refuses connections for a while."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    bench.api.api = bench.api_at(f"http://127.0.0.1:{port}")
    runs = await bench.all_accepted(REPEATS)
    await bench.round(bench.kickoff, REPEATS)
    assert bench.api.seen == {"NotStarted": REPEATS}
    bench.api.api = bench.api_at(bench.url)
    await bench.until_nothing_waits(REPEATS)
    assert await bench.posts() == {run.run_id: 1 for run in runs}
