"""What learning gains end to end: a real daemon follows runs of the sandbox, once by what it learns, once evenly.

`python -m bench.learned --runs 200 --run-time lognormal:5:0.15` (two minutes). Both start with nothing known; measured
is the second half of the runs. The even interval is the one that costs as many looks as the learned ones did.
"""

import argparse
import asyncio
import socket
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import aiohttp
import yaml

from bench.daemon import answers, process

PACE = 6.0  # runs started per second: those learn for the later ones


async def main() -> None:
    options = _options()
    looks, lag = await _follow(options, {"looks": 5, "min": "100ms", "max": "60s"})
    print(f"learned: {looks:.2f} looks per run, mean lag {lag:.3f} s", flush=True)
    interval = f"{round(1000 * options.mean / (looks - 0.5))}ms"
    even_looks, even_lag = await _follow(options, {"min": interval, "max": interval})
    print(f"every {interval}: {even_looks:.2f} looks per run, mean lag {even_lag:.3f} s")
    print(f"sooner by a factor of {even_lag * even_looks / (lag * looks):.2f} at equal looks")


async def _follow(options: argparse.Namespace, poll: dict[str, Any]) -> tuple[float, float]:
    """Looks per run and mean lag in seconds, of the second half of the runs."""
    with tempfile.TemporaryDirectory() as folder:
        crew, bridge = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
        config = Path(folder) / "bridge.yaml"
        config.write_text(yaml.safe_dump(_settings(folder, crew, bridge, poll)))
        sandbox = process("-m", "bridge", "sandbox", "--port", crew.rpartition(":")[2], "--run-time", options.run_time)
        daemon = process("-m", "bridge", "run", "--config", str(config))
        async with sandbox, daemon, aiohttp.ClientSession() as http:
            await answers(http, f"{crew}/_ledger")
            await answers(http, f"{bridge}/healthz")
            ids = [await _submit(http, bridge, number) for number in range(options.runs)]
            runs = [await _ended(http, bridge, run_id) for run_id in ids[len(ids) // 2 :]]
            async with http.get(f"{crew}/_ledger") as response:
                ends = {entry["kickoff_id"]: entry["ended_at"] for entry in (await response.json())["kickoffs"]}
        lags = [datetime.fromisoformat(run["finished_at"]).timestamp() - ends[run["kickoff_id"]] for run in runs]
        return fmean(run["polls"] for run in runs), fmean(lags)


def _settings(folder: str, crew: str, bridge: str, poll: dict[str, Any]) -> dict[str, Any]:
    plenty = {"max_running": 1000, "requests_per_second": 1000}
    crews = {"bench": {"url": crew, "token": "sandbox-token", "poll": poll, **plenty}}
    return {
        "http": {"port": int(bridge.rpartition(":")[2])},
        "store": {"url": f"sqlite:///{folder}/bench.db"},
        "log": {"level": "warning"},
        "crews": crews,
    }


async def _submit(http: aiohttp.ClientSession, bridge: str, number: int) -> str:
    request = {"crew": "bench", "inputs": {"topic": str(number)}}
    async with http.post(f"{bridge}/v1/runs", json=request) as response:
        response.raise_for_status()
        run_id: str = (await response.json())["run_id"]
    await asyncio.sleep(1 / PACE)
    return run_id


async def _ended(http: aiohttp.ClientSession, bridge: str, run_id: str) -> dict[str, Any]:
    while True:
        async with http.get(f"{bridge}/v1/runs/{run_id}") as response:
            run: dict[str, Any] = await response.json()
        if run["finished_at"]:
            return run
        await asyncio.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--run-time", default="lognormal:5:0.15")
    parser.add_argument("--mean", type=float, default=5.06, help="seconds that a run takes on average")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
