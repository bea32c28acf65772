"""A crew with few runs beside one with very many in the same process: how long it takes to see the ends of the few.

`python -m bench.fairness --runs 50000`. Both crews are stand-ins of `bench.crew` in processes of their own; the many
runs go on for ever. Looks at the few come every second, so half a second of lag is what that alone costs.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml

from bench.daemon import answers, figures, fill, process, value
from tests.broker import free_ports

FEW = 10
RUN_TIME = 3.5  # halfway between two looks, or a hair would decide about a whole second


async def main() -> None:
    options = _options()
    alone = await _lags(0, options.rounds)
    beside = await _lags(options.runs, options.rounds)
    print(f"alone                {_told(alone)}")
    times = statistics.mean(beside) / statistics.mean(alone)
    print(f"beside {options.runs:6} runs   {_told(beside)}: {times:.2f} times")


async def _lags(many: int, rounds: int) -> list[float]:
    """Seconds from the end of each of the few executions to when the bridge saw it."""
    with tempfile.TemporaryDirectory() as name:
        folder, ports = Path(name), free_ports(3)
        crews = {"many": f"http://127.0.0.1:{ports[0]}", "few": f"http://127.0.0.1:{ports[1]}"}
        bridge = f"http://127.0.0.1:{ports[2]}"
        settings = _settings(folder, crews, ports[2])
        if many:
            await fill(f"sqlite:///{folder}/bench.db", "many", many)
        async with (
            process("-m", "bench.crew", "--port", str(ports[0])),
            process("-m", "bench.crew", "--port", str(ports[1]), "--run-time", str(RUN_TIME)),
            process("-m", "bridge", "run", "--config", str(settings)),
            aiohttp.ClientSession() as http,
        ):
            for crew in crews.values():
                await answers(http, f"{crew}/inputs")
            while await value(http, bridge, 'kickoff_bridge_followed_runs{crew="many"}') < many:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.2)
            lags: list[float] = []
            for number in range(rounds):
                lags += await _round(http, crews["few"], bridge, number)
            return lags


async def _round(http: aiohttp.ClientSession, crew: str, bridge: str, number: int) -> list[float]:
    runs = [await _submit(http, bridge, f"{number}-{place}") for place in range(FEW)]
    ended = [await _ended(http, bridge, run_id) for run_id in runs]
    started = (await figures(http, crew))["started"]
    return [_epoch(run["finished_at"]) - started[run["kickoff_id"]] - RUN_TIME for run in ended]


async def _submit(http: aiohttp.ClientSession, bridge: str, topic: str) -> str:
    async with http.post(f"{bridge}/v1/runs", json={"crew": "few", "inputs": {"topic": topic}}) as response:
        return str((await response.json())["run_id"])


async def _ended(http: aiohttp.ClientSession, bridge: str, run_id: str) -> dict[str, Any]:
    while True:
        async with http.get(f"{bridge}/v1/runs/{run_id}") as response:
            run: dict[str, Any] = await response.json()
        if run["finished_at"] is not None:
            return run
        await asyncio.sleep(0.5)


def _settings(folder: Path, crews: Mapping[str, str], port: int) -> Path:
    common = {"token": "t", "max_running": 1_000_000, "requests_per_second": 200, "poll": {"min": "1s", "max": "1s"}}
    settings = {
        "http": {"port": port},
        "store": {"url": f"sqlite:///{folder}/bench.db"},
        "log": {"level": "warning"},
        "crews": {name: common | {"url": url} for name, url in crews.items()},
    }
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def _told(lags: list[float]) -> str:
    return f"mean lag {statistics.mean(lags):.3f} s, p95 {sorted(lags)[int(0.95 * len(lags))]:.3f} s"


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
