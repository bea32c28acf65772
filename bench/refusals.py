"""A crew that responds with 429 for a while: call rate, time until the full rate, and lost requests.

`python -m bench.refusals`. Bridge and sandbox crew in processes of their own; printed every five seconds.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp
import uvloop

from bench.daemon import bridge_process, responses, sandbox_process, submit, value, write_settings
from tests.broker import free_ports

RUNS = 200
PER_SECOND = 20
EVERY = 5
CREW = 'crew="bench"'


async def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        crew_port, bridge_port = free_ports(2)
        crew, bridge = f"http://127.0.0.1:{crew_port}", f"http://127.0.0.1:{bridge_port}"
        of_crew = {"url": crew, "requests_per_second": PER_SECOND, "poll": {"min_interval": "1s", "max_interval": "5s"}}
        settings = write_settings(Path(name), bridge_port, {"bench": of_crew}, log={"level": "error"})
        async with sandbox_process(crew_port, "fixed:3600"), bridge_process(settings), aiohttp.ClientSession() as http:
            await responses(http, f"{crew}/_ledger")
            await _start(http, bridge)
            await _watch(http, bridge, "well", 20)
            await http.post(f"{crew}/_faults", json={"on": "status", "do": "http", "code": 429, "times": None})
            await _watch(http, bridge, "429", options.seconds)
            await http.delete(f"{crew}/_faults")
            await _watch(http, bridge, "well again", options.seconds)


async def _start(http: aiohttp.ClientSession, bridge: str) -> None:
    await value(http, bridge, f"kickoff_bridge_tracked_runs{{{CREW}}}")
    for number in range(RUNS):
        await submit(http, bridge, "bench", str(number))
    while await value(http, bridge, f"kickoff_bridge_tracked_runs{{{CREW}}}") < RUNS:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.2)


async def _watch(http: aiohttp.ClientSession, bridge: str, how: str, seconds: int) -> None:
    for _ in range(0, seconds, EVERY):
        before, at = await _polls(http, bridge), time.monotonic()
        await asyncio.sleep(EVERY)
        now = await _polls(http, bridge)
        made, took = sum(now) - sum(before), time.monotonic() - at
        rate_limiter = await value(http, bridge, f"kickoff_bridge_crew_request_rate{{{CREW}}}")
        tracked_runs = await value(http, bridge, f"kickoff_bridge_tracked_runs{{{CREW}}}")
        answered = (now[0] - before[0]) / took
        print(
            f"{how:10} {made / took:5.1f} polls/s, {answered:5.1f} answered, "
            f"rate {rate_limiter:4.1f}, tracked {tracked_runs:.0f}"
        )


async def _polls(http: aiohttp.ClientSession, bridge: str) -> tuple[float, float]:
    """The number of polls answered so far, and the number refused."""
    found = {"running": 0.0, "no_response": 0.0}
    async with http.get(f"{bridge}/metrics") as response:
        for line in (await response.text()).splitlines():
            for outcome in found:
                if line.startswith(f'kickoff_bridge_polls_total{{{CREW},outcome="{outcome}"}}'):
                    found[outcome] = float(line.rpartition(" ")[2])
    return found["running"], found["no_response"]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
