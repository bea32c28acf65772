"""Required inputs, and a deploy that renames one while requests arrive, with the real process and a sandbox."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import Daemon, eventually, ledger


async def submit(daemon: Daemon, **inputs: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        body = {"crew": "research", "inputs": inputs}
        async with session.post(f"{daemon.url}/v1/runs", json=body) as response:
            return response.status, await response.json()


async def ended(daemon: Daemon, count: int) -> bool:
    return [run["state"] for run in await daemon.all_runs()] == ["succeeded"] * count


@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_requests_follow_a_deploy_that_renames_an_input(tmp_path: Path, kind: str) -> None:
    sandbox = SandboxSettings(
        kind="crew" if kind == "crew" else "flow",
        inputs=("topic", "tone"),
        required_inputs=("topic",),
        run_time=parse_run_time("fixed:0.2"),
    )
    async with running(sandbox) as crew_url:
        daemon = Daemon(tmp_path, crew_url, {"kind": kind})
        await daemon.start()
        try:
            before = [(await submit(daemon, **inputs))[0] for inputs in ({"topic": "tides"}, {"tone": "dry"})]
            await eventually(lambda: ended(daemon, 1), "the first run has succeeded")  # before the deploy refuses it
            _, listed = await daemon.get("/v1/crews/research/inputs")
            renamed = {"inputs": ["subject", "tone"], "required_inputs": ["subject"]}
            async with aiohttp.ClientSession() as session, session.post(f"{crew_url}/_deploy", json=renamed):
                pass
            accepted, _ = await submit(daemon, subject="tides")
            refused, problem = await submit(daemon, topic="tides")
            await eventually(lambda: ended(daemon, 2), "the accepted runs have succeeded")
        finally:
            await daemon.close()
        found = await ledger(crew_url)
    assert before == [202, 422]
    assert (listed["inputs"], listed["required"]) == (["topic", "tone"], ["topic"])
    assert (accepted, refused, problem["code"]) == (202, 422, "missing_inputs")
    assert [entry["inputs"] for entry in found["kickoffs"]] == [{"topic": "tides"}, {"subject": "tides"}]
