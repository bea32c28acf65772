"""The bridge in front of a real crew and real flows of the crewai library, with a scripted model and without a network.

`make crewai` installs the library into an environment of its own. `python -m pytest -s` prints the figures that
docs/crew-api.md quotes.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.acceptance.harness import Daemon, eventually, free_port
from tests.system.interop.real_crew.process import INSTALLED, deployed

KINDS = ["crew", "crew_with_memory", "flow", "failing_flow"]
SECRET = "whsec_interop"
RUNS = 12
LOST = 20
KILLS = 5  # in each of four tests

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not INSTALLED.exists(), reason="needs crewai: make crewai"),
    pytest.mark.timeout(1800),
]


@dataclass(frozen=True, slots=True)
class RealCrew:
    """A deployment, and the bridge in front of it."""

    url: str
    daemon: Daemon

    async def submit(self, count: int = 1) -> list[str]:
        """Submit runs one after the other; return their ids."""
        async with aiohttp.ClientSession() as session:

            async def one() -> str:
                body = {"crew": "research", "inputs": {"topic": "tides"}}
                async with session.post(f"{self.daemon.url}/v1/runs", json=body) as response:
                    run_id: str = (await response.json())["run_id"]
                    return run_id

            return [await one() for _ in range(count)]

    async def call(self, path: str, body: Any = None) -> Any:
        """Call the deployment."""
        method = "GET" if body is None else "POST"
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path, json=body) as response:
            return await response.json()

    async def executions(self) -> dict[str, dict[str, Any]]:
        """The deployment's executions, by run id."""
        found = (await self.call("/_ledger"))["runs"]
        by_run = {row["meta"]["bridge_run_id"]: row for row in found}
        assert len(by_run) == len(found), "two executions of one run"
        return by_run

    async def ended(self, count: int) -> dict[str, dict[str, Any]]:
        """Every run, once this many have ended."""
        runs: dict[str, dict[str, Any]] = {}

        async def met() -> bool:
            runs.update({run["run_id"]: run for run in await self.daemon.all_runs()})
            return len([run for run in runs.values() if run["finished_at"] is not None]) == count

        await eventually(met, f"{count} runs have ended")
        return runs


@asynccontextmanager
async def bridge_and_crew(
    folder: Path, kind: str, *, webhooks: bool = True, reorder: float = 0.0, model_seconds: float = 1.0, **crew: Any
) -> AsyncIterator[RealCrew]:
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    options = ("--questions", f"{own}/amp/crews/research/human", "--secret", SECRET, "--reorder", str(reorder))
    async with deployed(kind, *options, model_seconds=model_seconds) as url:
        is_flow = {"kind": "flow", "human": {"secret": SECRET}} if "flow" in kind else {}
        settings = {"max_running": 4, "poll": {"min_interval": "1s"}, **is_flow, **crew}
        daemon = Daemon(folder, url, settings, port=port, **({"public_url": own} if webhooks else {}))
        await daemon.start()
        try:
            yield RealCrew(url, daemon)
        finally:
            await daemon.close()


async def lags_and_polls(real: RealCrew) -> tuple[list[float], list[int]]:
    """Seconds from the end that the last event announced to the first poll that saw it, and polls, for each run."""
    await real.submit(RUNS)
    await real.ended(RUNS)
    rows = (await real.executions()).values()
    return [row["seen_at"] - row["ended_at"] for row in rows], [row["polls"] for row in rows]


@pytest.mark.parametrize("kind", KINDS)
async def test_with_webhooks_ends_are_seen_earlier_than_with_polls_alone(
    tmp_path: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    async with bridge_and_crew(tmp_path / "polls", kind, webhooks=False) as real:
        lags_alone, polls_alone = await lags_and_polls(real)
    async with bridge_and_crew(tmp_path / "webhooks", kind) as real:
        lags, polls = await lags_and_polls(real)
    figures = {
        "polls alone": (statistics.mean(lags_alone), max(lags_alone), statistics.mean(polls_alone)),
        "webhooks": (statistics.mean(lags), max(lags), statistics.mean(polls)),
    }
    record_property(kind, figures)
    for name, (mean, most, per_run) in figures.items():
        print(f"{kind}, {name}: mean lag {mean:.2f} s, largest {most:.2f} s, {per_run:.1f} polls per run")
    assert statistics.mean(lags) < statistics.mean(lags_alone)
    assert statistics.mean(polls) <= statistics.mean(polls_alone) + 1  # no polls for the ends of inner executions


@pytest.mark.parametrize("kind", ["crew_with_memory", "flow", "flow_with_threads"])
async def test_after_a_lost_response_every_run_finds_its_own_execution(tmp_path: Path, kind: str) -> None:
    """Webhooks arrive out of order, so that inner executions are announced first."""
    async with bridge_and_crew(tmp_path, kind, reorder=1.5, model_seconds=0.3) as real:
        await real.call("/_lose", {"times": LOST})
        await real.submit(LOST)
        runs = await real.ended(LOST)
        executions = await real.executions()
        assert {run_id: run["state"] for run_id, run in runs.items()} == dict.fromkeys(executions, "succeeded")
        assert {run_id: run["kickoff_id"] for run_id, run in runs.items()} == {
            run_id: row["kickoff_id"] for run_id, row in executions.items()
        }


@pytest.mark.parametrize("part", range(4))
async def test_evidence_that_was_answered_survives_a_kill(tmp_path: Path, part: int) -> None:
    async with bridge_and_crew(tmp_path, "flow", reorder=1.5, model_seconds=0.3) as real:
        for number in range(1, KILLS + 1):
            await real.call("/_lose", {"times": 1})
            [run_id] = await real.submit()

            async def announced(run_id: str = run_id) -> bool:
                row = (await real.executions()).get(run_id)
                return row is not None and row["own_webhooks_answered"] > 0

            await eventually(announced, "a webhook has been answered")
            await real.daemon.kill()
            await real.daemon.start()
            runs = await real.ended(number)
            assert runs[run_id]["state"] == "succeeded", runs[run_id]
        executions = await real.executions()
        assert {run_id: run["kickoff_id"] for run_id, run in runs.items()} == {
            run_id: row["kickoff_id"] for run_id, row in executions.items()
        }


async def test_a_flow_waits_for_a_human_and_returns_an_object(tmp_path: Path) -> None:
    async with bridge_and_crew(tmp_path, "review_flow", model_seconds=0.5) as real:
        [run_id] = await real.submit()
        await answer(real, run_id, {"feedback": "fine"})
        run = (await real.ended(1))[run_id]
        assert (run["state"], run["result_json"]) == ("succeeded", {"published": True, "feedback": "fine"})
        assert run["kickoff_id"] == (await real.executions())[run_id]["kickoff_id"]


async def answer(real: RealCrew, run_id: str, body: dict[str, Any]) -> None:
    """Answer the question of a run once it is asked."""

    async def asked() -> bool:
        _, run = await real.daemon.get(f"/v1/runs/{run_id}")
        return bool(run["state"] == "waiting_for_human" and run["question"]["output"] is not None)

    await eventually(asked, "the flow waits for a human")
    url = f"{real.daemon.url}/v1/runs/{run_id}/resume"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        assert response.status == 200, await response.text()


async def test_an_error_keeps_its_lines(tmp_path: Path) -> None:
    async with bridge_and_crew(tmp_path, "failing_flow", model_seconds=0.1) as real:
        [run_id] = await real.submit()
        error = (await real.ended(1))[run_id]["error"]
        assert error == {"code": "execution_failed", "message": "ValueError: bad customer id 17\nsecond line"}


@pytest.mark.parametrize(
    ("limit", "state", "code"), [("32MiB", "succeeded", None), ("1MiB", "failed", "result_too_large")]
)
async def test_a_result_of_megabytes_arrives_or_ends_its_run(
    tmp_path: Path, limit: str, state: str, code: str | None
) -> None:
    async with bridge_and_crew(tmp_path, "crew_with_long_result", model_seconds=0.1, max_response=limit) as real:
        [run_id] = await real.submit()
        await real.ended(1)
        _, run = await real.daemon.get(f"/v1/runs/{run_id}")  # a list would leave out the result
        assert (run["state"], run["error"] and run["error"]["code"]) == (state, code)
        assert code is not None or len(run["result"]) > 3_000_000


async def test_the_environments_do_not_mix() -> None:
    """The library would pin versions that the bridge does not use."""
    with pytest.raises(ModuleNotFoundError):
        await asyncio.to_thread(__import__, "crewai")
