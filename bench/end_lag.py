"""How late the bridge sees the end of a flow, with and without webhooks, if the status shows it after the event.

`make bench-polling`, or `python -m bench.end_lag --runs 60`. The lag counts from the event. Sandbox and bridge are
processes, with the default settings of polls.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.daemon import bridge_process, ended, epoch, process, responses, submit, write_settings
from tests.broker import free_ports

RUN_TIME = "lognormal:8:0.4"
PER_SECOND = 4.0
STATUS_LAGS = (0.0, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Figures:
    """Lags in seconds, and polls per run."""

    mean: float
    p95: float
    largest: float
    polls: float

    def __str__(self) -> str:
        return f"mean {self.mean:.2f} s, p95 {self.p95:.2f} s, at most {self.largest:.2f} s, {self.polls:.1f} polls"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    for status_lag in STATUS_LAGS:
        for webhooks in (False, True):
            found = await _measure(runs, status_lag, webhooks=webhooks)
            print(f"status {status_lag:.1f} s late, {'webhooks' if webhooks else 'polling '}: {found}", flush=True)


async def _measure(runs: int, status_lag: float, *, webhooks: bool) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            aiohttp.ClientSession() as session,
            _processes(session, Path(folder), status_lag, webhooks=webhooks) as (crew, bridge),
        ):
            waiting = []
            for number in range(runs):
                run_id = await submit(session, bridge, "bench", str(number))
                waiting.append(asyncio.create_task(ended(session, bridge, run_id)))
                await asyncio.sleep(1 / PER_SECOND)
            finished = await asyncio.gather(*waiting)
            async with session.get(f"{crew}/_ledger") as response:
                ledger = await response.json()
    ended_at = {entry["kickoff_id"]: entry["ended_at"] for entry in ledger["kickoffs"]}
    lags = sorted(epoch(run["finished_at"]) - ended_at[run["kickoff_id"]] for run in finished)
    return Figures(statistics.mean(lags), lags[int(runs * 0.95)], lags[-1], ledger["polls"] / runs)


@asynccontextmanager
async def _processes(
    session: aiohttp.ClientSession, folder: Path, status_lag: float, *, webhooks: bool
) -> AsyncIterator[tuple[str, str]]:
    """A sandbox with a flow, and a bridge; returns their URLs."""
    crew_port, port = free_ports(2)
    crew, bridge = f"http://127.0.0.1:{crew_port}", f"http://127.0.0.1:{port}"
    public = {"public_url": bridge} if webhooks else {}
    settings = write_settings(folder, port, {"bench": {"url": crew, "kind": "flow"}}, **public)
    options = ("--kind", "flow", "--run-time", RUN_TIME, "--status-lag", str(status_lag), "--stream-nested")
    sandbox = process("-m", "bridge", "sandbox", "--port", str(crew_port), *options)
    async with sandbox, bridge_process(settings):
        await responses(session, f"{crew}/_ledger")
        await responses(session, f"{bridge}/healthz")
        yield crew, bridge


if __name__ == "__main__":
    asyncio.run(main())
