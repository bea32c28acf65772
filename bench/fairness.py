"""A crew with few runs beside one with very many in the same process: the lag of the few.

`python -m bench.fairness --runs 50000`. Both crews are those of `bench.crew` in processes of their own; the many
runs go on forever. Polls of the few come every second, so half a second of lag is the minimum.
"""

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path

import aiohttp
import uvloop

from bench.daemon import bridge_process, ended, epoch, figures, fill, process, responses, submit, value, write_settings
from tests.broker import free_ports

FEW = 10
RUN_TIME = 3.5  # halfway between two polls, so that small deviations do not add a second


async def main() -> None:
    options = _options()
    alone = await _lags(0, options.rounds)
    beside = await _lags(options.runs, options.rounds)
    print(f"alone                {_summary(alone)}")
    times = statistics.mean(beside) / statistics.mean(alone)
    print(f"beside {options.runs:6} runs   {_summary(beside)}: {times:.2f} times")


async def _lags(many: int, rounds: int) -> list[float]:
    """Seconds from the end of each of the few executions until the bridge noticed it."""
    with tempfile.TemporaryDirectory() as name:
        folder, ports = Path(name), free_ports(3)
        crews = {"many": f"http://127.0.0.1:{ports[0]}", "few": f"http://127.0.0.1:{ports[1]}"}
        bridge, slow = (
            f"http://127.0.0.1:{ports[2]}",
            {"requests_per_second": 200, "poll": {"min_interval": "1s", "max_interval": "1s"}},
        )
        settings = write_settings(folder, ports[2], {name: slow | {"url": crew} for name, crew in crews.items()})
        if many:
            await fill(f"sqlite:///{folder}/bench.db", "many", many)
        async with (
            process("-m", "bench.crew", "--port", str(ports[0])),
            process("-m", "bench.crew", "--port", str(ports[1]), "--run-time", str(RUN_TIME)),
            bridge_process(settings),
            aiohttp.ClientSession() as http,
        ):
            for crew in crews.values():
                await responses(http, f"{crew}/inputs")
            while await value(http, bridge, 'kickoff_bridge_tracked_runs{crew="many"}') < many:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.2)
            lags: list[float] = []
            for number in range(rounds):
                lags += await _round(http, crews["few"], bridge, number)
            return lags


async def _round(http: aiohttp.ClientSession, crew: str, bridge: str, number: int) -> list[float]:
    ids = [await submit(http, bridge, "few", f"{number}-{index}") for index in range(FEW)]
    runs = [await ended(http, bridge, run_id) for run_id in ids]
    started = (await figures(http, crew))["started"]
    return [epoch(run["finished_at"]) - started[run["kickoff_id"]] - RUN_TIME for run in runs]


def _summary(lags: list[float]) -> str:
    return f"mean lag {statistics.mean(lags):.3f} s, p95 {sorted(lags)[int(0.95 * len(lags))]:.3f} s"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
