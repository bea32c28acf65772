"""End to end over HTTP: requests per second, detection lag, polls per run; sandbox and bridge as processes.

`make bench`, or `python -m bench.end_to_end --requests 2000 --rounds 3`. Prints one line per round and the medians.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.daemon import bridge_process, epoch, responses, sandbox_process, submit, write_settings
from tests.broker import free_ports

AT_ONCE = 50  # connections of the load generator
RUN_TIME = "uniform:1:5"
INTERVAL = "1s"


@dataclass(frozen=True)
class Figures:
    """The result of one round; times in seconds."""

    accepted_per_second: float
    started_per_second: float
    lag_mean: float
    lag_p95: float
    polls_per_run: float

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted_per_second:7.0f}/s   started {self.started_per_second:7.0f}/s   "
            f"lag mean {self.lag_mean:5.2f} s, p95 {self.lag_p95:5.2f} s   polls per run {self.polls_per_run:4.1f}"
        )


async def main() -> None:
    options = _options()
    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(await _round(options.requests))
        print(f"round {number}: {rounds[-1]}", flush=True)
    names = Figures.__dataclass_fields__
    print(f"median:  {Figures(*(statistics.median(getattr(r, name) for r in rounds) for name in names))}")


async def _round(requests: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession() as session, _processes(session, Path(folder)) as (crew, bridge):
            began = time.perf_counter()
            await _submit_all(session, bridge, requests)
            accepted = time.perf_counter() - began
            runs = await _all_ended(session, bridge, requests)
            async with session.get(f"{crew}/_ledger") as response:
                ledger = await response.json()
    return _figures(requests, accepted, runs, ledger)


async def _submit_all(session: aiohttp.ClientSession, bridge: str, requests: int) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            await submit(session, bridge, "bench", str(number))

    await asyncio.gather(*(one(number) for number in range(requests)))


_SUCCEEDED = 'kickoff_bridge_runs_ended_total{crew="bench",error="none",state="succeeded"}'


async def _all_ended(session: aiohttp.ClientSession, bridge: str, requests: int) -> list[dict[str, Any]]:
    """Wait until all runs have succeeded, and return them."""
    while True:
        async with session.get(f"{bridge}/metrics") as response:
            if f"{_SUCCEEDED} {requests:.1f}" in await response.text():
                break
        await asyncio.sleep(0.5)
    runs: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
        async with session.get(f"{bridge}/v1/runs", params=query) as response:
            page = await response.json()
        runs, cursor = runs + page["runs"], page["next_cursor"]
    return runs


def _figures(requests: int, accepted: float, runs: list[dict[str, Any]], ledger: dict[str, Any]) -> Figures:
    kickoffs = {entry["kickoff_id"]: entry for entry in ledger["kickoffs"]}
    assert len(kickoffs) == requests, "each request is POSTed once"
    lags = sorted(epoch(run["finished_at"]) - kickoffs[run["kickoff_id"]]["ended_at"] for run in runs)
    received = sorted(entry["received_at"] for entry in kickoffs.values())
    return Figures(
        accepted_per_second=requests / accepted,
        started_per_second=requests / (received[-1] - received[0]),
        lag_mean=statistics.mean(lags),
        lag_p95=lags[int(len(lags) * 0.95)],
        polls_per_run=ledger["polls"] / requests,
    )


@asynccontextmanager
async def _processes(session: aiohttp.ClientSession, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A sandbox and a bridge; returns their URLs."""
    crew_port, port = free_ports(2)
    crew, bridge = f"http://127.0.0.1:{crew_port}", f"http://127.0.0.1:{port}"
    settings = write_settings(
        folder, port, {"bench": {"url": crew, "poll": {"min_interval": INTERVAL, "max_interval": INTERVAL}}}
    )
    async with sandbox_process(crew_port, RUN_TIME), bridge_process(settings):
        await responses(session, f"{crew}/_ledger")
        await responses(session, f"{bridge}/healthz")
        yield crew, bridge


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
