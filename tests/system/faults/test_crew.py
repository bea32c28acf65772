"""A crew API that violates its contract (M10), with a complete daemon.

The classification of each response is tested one by one in `tests/integration/test_crew_api_faults.py`, and with
`make proofs` fifty times each.
"""

import asyncio
from typing import Any

import aiohttp
import pytest

from bridge.core.crew.responses import CrewUnavailable, InDoubt, KickoffResponse, Refused
from tests.crew_api_faults import CASES, ONLY_ON_POLLS, TRACKED, Case
from tests.patience import PATIENCE
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.harness import requests

pytestmark = pytest.mark.timeout(1800)

SLOW = {"503 slow": 16, "one byte a second": 60, "never": 60}  # seconds that the bridge waits for them
ENDS = "40 MiB"  # a success whose status cannot be read is an end
AT_ONCE = 16  # POSTs in flight


def times(case: Case, *, full: bool) -> int:
    """The number of repeats: once for faults that pause the crew for a minute; faults of a minute only at full size."""
    if case.kickoff is CrewUnavailable:
        return int(full)
    if case.name in SLOW:
        return AT_ONCE if full else 0
    return 20 if full else 1


async def test_an_execution_is_paid_for_once_whatever_the_crew_responds(
    open_scenario: OpenScenario, full: bool
) -> None:
    """M10: a possible start is in doubt, a refusal is refused; everything else runs."""
    async with open_scenario("M10") as scenario:
        await scenario.daemon.start()
        await scenario.publish(requests(1, start=1_000_000))  # an execution whose id can be returned again
        await scenario.come_to_rest()
        taken = (await scenario.daemon.all_runs())[0]["kickoff_id"]
        rules = [(case, rule(case, taken)) for case in CASES for _ in range(times(case, full=full))]
        scenario.rng.shuffle(rules)
        scenario.tally.faults = 2 * len(rules)
        async with aiohttp.ClientSession() as session:
            for case, spoilt in rules:
                await inject(session, scenario.crew_url, "kickoff", spoilt)
                if case.kickoff is not CrewUnavailable and case.name not in {*SLOW, ENDS}:
                    await inject(session, scenario.crew_url, "status", ONLY_ON_POLLS.get(case.name, spoilt))
        await scenario.publish(requests(len(rules)))
        await scenario.come_to_rest(within=600 if full else PATIENCE)
        await scenario.apply()
        async with aiohttp.ClientSession() as session, session.get(f"{scenario.crew_url}/_faults") as response:
            left = (await response.json())["rules"]
        runs = await scenario.daemon.all_runs()

    assert [one for one in left if one["on"] == "kickoff"] == [], "not every fault happened"
    assert scenario.tally.in_doubt == of(InDoubt, rules)
    assert sum(run["state"] == "failed" and run["error"]["code"] == "refused" for run in runs) == of(Refused, rules)
    assert sum(run["state"] == "succeeded" for run in runs) == 1 + len(rules) - of(InDoubt, rules) - of(Refused, rules)


def rule(case: Case, taken: str) -> dict[str, Any]:
    """The rule of the sandbox; `taken` is the id of another run's execution."""
    if case.name == "503 slow":
        return {"do": "slow_503", "seconds": 11}  # seconds; faster ones count as refusals
    if case.name == "one byte a second":
        return {**case.rule, "seconds": 5}  # for each of some fifty bytes: longer than the bridge waits
    return {**case.rule, "id": taken} if case.rule.get("id") == TRACKED else case.rule


def of(kind: type[KickoffResponse], rules: list[tuple[Case, dict[str, Any]]]) -> int:
    return sum(issubclass(case.kickoff, kind) for case, _ in rules)


async def inject(session: aiohttp.ClientSession, crew_url: str, on: str, spoilt: dict[str, Any]) -> None:
    async with session.post(f"{crew_url}/_faults", json={"on": on, **spoilt}) as response:
        assert response.status == 200, await response.text()
        await asyncio.sleep(0)
