"""Gain from learning, end to end: a real daemon tracks sandbox runs, once with learned and once with even polls.

`python -m bench.learned --runs 200 --run-time lognormal:5:0.15` (two minutes). Both start without statistics; the
second half of the runs is measured. The even interval costs as many polls as the learned ones did.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import aiohttp

from bench.daemon import bridge_process, ended, epoch, responses, sandbox_process, submit, write_settings
from tests.broker import free_ports

RATE = 6.0  # runs started per second: early ones provide statistics for later ones


async def main() -> None:
    options = _options()
    polls, lag = await _track(options, {"polls": 5, "min": "100ms", "max": "60s"})
    print(f"learned: {polls:.2f} polls per run, mean lag {lag:.3f} s", flush=True)
    interval = f"{round(1000 * options.mean / (polls - 0.5))}ms"
    even_polls, even_lag = await _track(options, {"min": interval, "max": interval})
    print(f"every {interval}: {even_polls:.2f} polls per run, mean lag {even_lag:.3f} s")
    print(f"sooner by a factor of {even_lag * even_polls / (lag * polls):.2f} at equal polls")


async def _track(options: argparse.Namespace, poll: dict[str, Any]) -> tuple[float, float]:
    """Polls per run and mean lag in seconds, of the second half of the runs."""
    with tempfile.TemporaryDirectory() as folder:
        crew_port, port = free_ports(2)
        crew, bridge = f"http://127.0.0.1:{crew_port}", f"http://127.0.0.1:{port}"
        settings = write_settings(Path(folder), port, {"bench": {"url": crew, "poll": poll}})
        async with (
            sandbox_process(crew_port, options.run_time),
            bridge_process(settings),
            aiohttp.ClientSession() as http,
        ):
            await responses(http, f"{crew}/_ledger")
            await responses(http, f"{bridge}/healthz")
            ids = [await _submit(http, bridge, number) for number in range(options.runs)]
            runs = [await ended(http, bridge, run_id) for run_id in ids[len(ids) // 2 :]]
            async with http.get(f"{crew}/_ledger") as response:
                ends = {entry["kickoff_id"]: entry["ended_at"] for entry in (await response.json())["kickoffs"]}
        lags = [epoch(run["finished_at"]) - ends[run["kickoff_id"]] for run in runs]
        return fmean(run["polls"] for run in runs), fmean(lags)


async def _submit(http: aiohttp.ClientSession, bridge: str, number: int) -> str:
    run_id = await submit(http, bridge, "bench", str(number))
    await asyncio.sleep(1 / RATE)
    return run_id


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--run-time", default="lognormal:5:0.15")
    parser.add_argument("--mean", type=float, default=5.06, help="seconds that a run takes on average")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
