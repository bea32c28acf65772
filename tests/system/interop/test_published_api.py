"""A whole bridge against the published OpenAPI document: Prism checks every request, and every response of the sandbox.

The document cannot be distributed with the bridge, so this runs only if CREW_API_DOCUMENT names it and Prism is
installed (`npm install --global @stoplight/prism-cli`).
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.patience import PATIENCE
from tests.system.acceptance.harness import Daemon, eventually, free_port

DOCUMENT = os.environ.get("CREW_API_DOCUMENT", "")

pytestmark = pytest.mark.skipif(not (DOCUMENT and shutil.which("prism")), reason="needs CREW_API_DOCUMENT and Prism")


@asynccontextmanager
async def validating_proxy(folder: Path, upstream: str) -> AsyncIterator[str]:
    """Prism in front of a server; it answers a request or a response that violates the document with an error."""
    port, log = free_port(), folder / "prism.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "prism", "proxy", DOCUMENT, upstream, "--port", str(port), "--errors", stdout=output, stderr=output
        )
    try:

        async def listens() -> bool:
            return "listening" in log.read_text()

        await eventually(listens, "Prism listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.wait()


async def ended(daemon: Daemon, *requests: dict[str, Any], answer: bool = False) -> list[dict[str, Any]]:
    """Submit these requests, answer what they ask, and return their runs once they have ended."""
    runs: dict[str, dict[str, Any]] = {}
    async with aiohttp.ClientSession(daemon.url) as session:
        for body in requests:
            async with session.post("/v1/runs", json={"crew": "research", **body}) as response:
                assert response.status == 202, await response.text()
                runs[(await response.json())["run_id"]] = {}

        async def met() -> bool:
            for run_id in runs:
                _, runs[run_id] = await daemon.get(f"/v1/runs/{run_id}")
                if answer and runs[run_id]["state"] == "waiting_for_human":
                    async with session.post(f"/v1/runs/{run_id}/resume", json={"approve": True}):
                        pass
            return all(run["finished_at"] is not None for run in runs.values())

        await eventually(met, "every run has ended")
    return list(runs.values())


def violations(folder: Path) -> list[str]:
    return re.findall(r"violation.*|✖.*", (folder / "prism.log").read_text(), re.IGNORECASE)


@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_no_request_of_the_bridge_is_refused(tmp_path: Path, kind: str) -> None:
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    sandbox = SandboxSettings(
        kind="crew" if kind == "crew" else "flow", dialect="reference", run_time=parse_run_time("fixed:0.5")
    )
    async with running(sandbox) as url, validating_proxy(tmp_path, url) as proxy:
        daemon = Daemon(tmp_path, proxy, {"kind": kind}, port=port, public_url=own)
        await daemon.start()
        try:
            text = {"topic": "größe", "sandbox_result": "done"}
            good, bad = await ended(
                daemon, {"inputs": text}, {"inputs": {**text, "sandbox_error": "ValueError: no\n1"}}
            )
            if kind == "crew":
                third: dict[str, Any] = {"inputs": {**text, "sandbox_human_questions": "1"}}
            else:  # a flow asks outside this API, but continues from earlier runs
                third = {"inputs": text, "restore_from": {"run_id": good["run_id"]}}
            [last] = await ended(daemon, third, answer=True)
        finally:
            await daemon.close()
    assert (good["state"], good["result"]) == ("succeeded", "done")
    assert (bad["state"], bad["error"]) == ("failed", {"code": "execution_failed", "message": "ValueError: no\n1"})
    assert last["state"] == "succeeded"
    assert violations(tmp_path) == []


async def test_the_proxy_refuses_violations(tmp_path: Path) -> None:
    """Otherwise the test above proves nothing."""
    async with running(SandboxSettings()) as url, validating_proxy(tmp_path, url) as proxy:
        headers = {"Authorization": "Bearer sandbox-token"}
        bare = {"topic": "not wrapped"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{proxy}/kickoff", json=bare) as response,
        ):
            assert response.status == 422
    assert violations(tmp_path)
