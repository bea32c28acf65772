"""The crew API's webhooks and the real daemon: with all of them, with half of them, and with lost responses.

The sandbox runs in a process of its own, so that neither affects the timing of the other.
"""

import asyncio
import contextlib
import json
import math
import sqlite3
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.system.acceptance.harness import Daemon, eventually, free_port, ledger, posts_per_request

Note = Callable[[str, object], None]


@asynccontextmanager
async def sandbox(*options: str) -> AsyncIterator[str]:
    """`kickoff-bridge sandbox`; returns its URL."""
    port = free_port()
    command = [sys.executable, "-m", "bridge", "sandbox", "--port", str(port), "--inputs", "n", *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@dataclass
class Receiver:
    """Accepts completion events as callbacks, with the time of their arrival."""

    url: str
    events: list[tuple[float, dict[str, Any]]]

    def arrived_at(self) -> dict[str, float]:
        """Kickoff id → arrival of the final event."""
        return {event["data"]["kickoff_id"]: at for at, event in self.events}

    def finals(self) -> dict[str, tuple[str, str | None]]:
        """The consumer's view of each request; one event per run, whatever happened."""
        events = [event for _, event in self.events if event["data"]["state"] not in {"in_doubt", "running"}]
        runs = Counter(event["data"]["run_id"] for event in events)
        assert max(runs.values(), default=1) == 1
        return {event["data"]["meta"]["n"]: (event["type"], event["data"]["result"]) for event in events}


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    taker = Receiver("", [])

    async def take(request: web.Request) -> web.Response:
        taker.events.append((time.time(), json.loads(await request.read())))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taker.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield taker
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Cost and result of one kind of tracking; lag is from the end in the sandbox to the event at the receiver."""

    finals: dict[str, tuple[str, str | None]]
    polls: int
    lags: Sequence[float]

    def __str__(self) -> str:
        p95 = statistics.quantiles(self.lags, n=20)[-1]
        return f"{self.polls} polls, lag mean {statistics.mean(self.lags):.2f} s, p95 {p95:.2f} s"


async def submit(bridge: Daemon, count: int) -> None:
    async with aiohttp.ClientSession() as session:
        for number in range(count):
            request = {"crew": "research", "inputs": {"n": str(number)}, "meta": {"n": str(number)}}
            async with session.post(f"{bridge.url}/v1/runs", json=request) as response:
                assert response.status == 202, await response.text()


@asynccontextmanager
async def bridge(folder: Path, crew_url: str, taker: Receiver, *, webhooks: bool, **crew: Any) -> AsyncIterator[Daemon]:
    """A daemon that delivers to the receiver; the sandbox can reach its webhooks."""
    daemon = Daemon(folder, crew_url, {"callback_url": taker.url, **crew}, callbacks={"allow_private": True})
    daemon.change(**({"public_url": daemon.url} if webhooks else {}))
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.close()


@dataclass(frozen=True, slots=True)
class Load:
    """Runs that take from `shortest` to twice as long, in seconds; `saving`: webhooks leave this fraction of polls."""

    count: int
    shortest: float
    saving: float


async def tracked_runs(folder: Path, load: Load, *, webhooks: bool, options: Sequence[str] = ()) -> Outcome:
    """Run all executions to their ends, with poll settings in proportion to their duration."""
    run_time = ("--run-time", f"uniform:{load.shortest}:{2 * load.shortest}", "--seed", "3")
    async with sandbox(*run_time, *options) as crew_url, receiver() as taker:
        poll = {"poll": {"min_interval": f"{50 * load.shortest:.0f}ms", "max_interval": f"{3 * load.shortest:.0f}s"}}
        async with bridge(folder, crew_url, taker, webhooks=webhooks, **poll) as daemon:
            await submit(daemon, load.count)

            async def all_received() -> bool:
                return len(taker.events) >= load.count

            await eventually(all_received, f"{load.count} events")
            found = await ledger(crew_url)
            assert max(posts_per_request(found).values()) == 1
            ended = {entry["kickoff_id"]: entry["ends_at"] for entry in found["kickoffs"]}
            lags = [at - ended[kickoff_id] for kickoff_id, at in taker.arrived_at().items()]
            return Outcome(taker.finals(), found["polls"], lags)


async def test_runs_end_alike_with_webhooks_and_if_half_of_them_are_lost(tmp_path: Path, record_property: Note) -> None:
    # the number of polls is not compared: they are so few that it depends on the machine
    await compare(tmp_path, record_property, Load(20, 2.0, math.inf))


@pytest.mark.nightly
async def test_webhooks_save_three_polls_in_four_even_if_half_are_lost(tmp_path: Path, record_property: Note) -> None:
    await compare(tmp_path, record_property, Load(200, 8.0, 0.25))


@pytest.mark.nightly
async def test_webhooks_save_four_polls_in_five_without_more_lag(tmp_path: Path, record_property: Note) -> None:
    """Lags are only meaningful on a machine that is fast enough for all runs."""
    alone, intact = await compare(tmp_path, record_property, Load(500, 20.0, 0.2))
    assert statistics.mean(intact.lags) <= statistics.mean(alone.lags)
    assert max(statistics.quantiles(intact.lags, n=20)) <= max(statistics.quantiles(alone.lags, n=20))


async def compare(tmp_path: Path, record_property: Note, load: Load) -> tuple[Outcome, Outcome]:
    """The same runs three times, side by side: polling, all webhooks, half of them out of order.

    Return the first two.
    """
    disorder = ("--webhook-loss-rate", "0.5", "--webhook-duplicate-rate", "1", "--webhook-reorder")
    alone, intact, lossy = await asyncio.gather(
        tracked_runs(tmp_path / "alone", load, webhooks=False),
        tracked_runs(tmp_path / "intact", load, webhooks=True),
        tracked_runs(tmp_path / "lossy", load, webhooks=True, options=disorder),
    )
    for name, outcome in (("alone", alone), ("intact", intact), ("lossy", lossy)):
        record_property(name, str(outcome))
        print(name, outcome)

    assert len(alone.finals) == load.count
    assert intact.finals == alone.finals
    assert lossy.finals == alone.finals
    assert intact.polls <= load.saving * alone.polls
    return alone, intact


# Lost responses -----------------------------------------------------------------------------------------------------

LOST = 20
CUT_OFF = ("--fault", json.dumps({"on": "kickoff", "do": "reset_after", "times": None}), "--run-time", "uniform:0.5:2")


async def cli(bridge: Daemon, *arguments: str) -> None:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "bridge", *arguments, "--url", bridge.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


async def all_in(bridge: Daemon, count: int, *states: str) -> None:
    async def met() -> bool:
        return await bridge.count(*states) == count

    await eventually(met, f"{count} runs are {' or '.join(states)}")


async def executions(crew_url: str) -> dict[str, list[str]]:
    """The executions of each request, in the order of their kickoffs."""
    found: dict[str, list[str]] = {}
    for entry in (await ledger(crew_url))["kickoffs"]:
        found.setdefault(entry["meta"]["bridge_run_id"], []).append(entry["kickoff_id"])
    return found


async def test_with_webhooks_every_kickoff_with_a_lost_response_finds_its_execution(tmp_path: Path) -> None:
    """The POST arrives, the execution starts, the connection is reset: 20 times."""
    async with (
        sandbox(*CUT_OFF) as crew_url,
        receiver() as taker,
        bridge(tmp_path, crew_url, taker, webhooks=True) as daemon,
    ):
        await submit(daemon, LOST)
        await all_in(daemon, LOST, "succeeded")
        runs = await daemon.all_runs()
        assert await executions(crew_url) == {run["run_id"]: [run["kickoff_id"]] for run in runs}

        async def all_received() -> bool:
            return len(taker.finals()) == LOST

        await eventually(all_received, "all events")


async def test_without_webhooks_they_are_all_in_doubt_and_an_operator_decides(tmp_path: Path) -> None:
    """`hold`: none is lost, and none is posted twice until an operator decides."""
    async with sandbox(*CUT_OFF) as crew_url, receiver() as taker:
        folder = tmp_path / "bridge"
        async with bridge(folder, crew_url, taker, webhooks=False, in_doubt_after="1s") as daemon:
            await submit(daemon, LOST)
            await all_in(daemon, LOST, "in_doubt")

            async def all_reported() -> bool:
                return [event["type"] for _, event in taker.events] == ["run.in_doubt"] * LOST

            await eventually(all_reported, "every doubt is reported once")
            before = await executions(crew_url)
            assert sorted(map(len, before.values())) == [1] * LOST

            adopted, abandoned, again, *_ = [run["run_id"] for run in await daemon.all_runs()]
            async with aiohttp.ClientSession() as session, session.delete(f"{crew_url}/_faults"):
                pass
            await cli(daemon, "runs", "resolve", adopted, "--adopt", before[adopted][0])
            await cli(daemon, "runs", "resolve", abandoned, "--abandon")
            await cli(daemon, "runs", "resolve", again, "--retry")
            await all_in(daemon, 2, "succeeded")
            after = await executions(crew_url)
            assert {run_id: len(found) for run_id, found in after.items() if len(found) != 1} == {again: 2}
            shown = {run["run_id"]: run for run in await daemon.all_runs()}
            assert shown[adopted]["kickoff_id"] == before[adopted][0]
            assert shown[again]["kickoff_id"] == after[again][1]
            assert (shown[abandoned]["state"], shown[abandoned]["error"]["code"]) == ("failed", "abandoned")
            assert await daemon.count("in_doubt") == LOST - 3


@pytest.mark.nightly
async def test_the_policy_fail_ends_them_and_retry_posts_each_once_more(tmp_path: Path) -> None:
    """The ten minutes of `retry` pass while the bridge is stopped: its times are moved back in the store."""
    async with sandbox(*CUT_OFF) as crew_url, receiver() as taker:
        async with bridge(
            tmp_path / "fail", crew_url, taker, webhooks=False, in_doubt="fail", in_doubt_after="1s"
        ) as daemon:
            await submit(daemon, 20)
            await all_in(daemon, 20, "failed")
            assert {run["error"]["code"] for run in await daemon.all_runs()} == {"abandoned"}
        failed = await executions(crew_url)

        folder = tmp_path / "retry"
        async with bridge(folder, crew_url, taker, webhooks=False, in_doubt="retry", in_doubt_after="10m") as daemon:
            await submit(daemon, 20)
            await all_in(daemon, 20, "in_doubt")
            assert await daemon.terminate() == 0
            assert sorted(map(len, (await executions(crew_url)).values())) == [1] * 40
            with contextlib.closing(sqlite3.connect(folder / "bridge.db")) as store, store:
                store.execute("UPDATE runs SET due_at = due_at - 600 WHERE state = 'in_doubt'")
            async with aiohttp.ClientSession() as session, session.delete(f"{crew_url}/_faults"):
                pass
            await daemon.start()
            await all_in(daemon, 20, "succeeded")
            after = await executions(crew_url)
            assert {run_id: len(after[run_id]) for run_id in failed} == dict.fromkeys(failed, 1)
            assert {len(found) for run_id, found in after.items() if run_id not in failed} == {2}
