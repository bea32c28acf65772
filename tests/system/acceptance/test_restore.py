"""A flow continues from the state of an earlier run, with the real process and a sandbox that saves states."""

from pathlib import Path
from typing import Any

import aiohttp

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import Daemon, eventually, ledger

STATE_ID = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"


async def ended(daemon: Daemon, **request: Any) -> dict[str, Any]:
    """Submit a request; return its run once it has ended."""
    run: dict[str, Any] = {}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{daemon.url}/v1/runs", json={"crew": "research", **request}) as response:
            assert response.status == 202, await response.text()
            run_id = (await response.json())["run_id"]

        async def met() -> bool:
            run.update((await daemon.get(f"/v1/runs/{run_id}"))[1])
            return run["finished_at"] is not None

        await eventually(met, "the run has ended")
    return run


async def test_a_flow_continues_from_an_earlier_run(tmp_path: Path) -> None:
    sandbox = SandboxSettings(kind="flow", inputs=("topic", "tone"), run_time=parse_run_time("fixed:0.2"))
    async with running(sandbox) as crew_url:
        daemon = Daemon(tmp_path, crew_url, {"kind": "flow"})
        await daemon.start()
        try:
            first = await ended(daemon, inputs={"topic": "tides", "tone": "dry"})
            second = await ended(daemon, inputs={"topic": "dams"}, restore_from={"run_id": first["run_id"]})
            own_id = await ended(daemon, inputs={"id": STATE_ID, "topic": "tides", "tone": "warm"})
            third = await ended(daemon, inputs={"topic": "docks"}, restore_from={"kickoff_id": own_id["kickoff_id"]})
        finally:
            await daemon.close()
        found = await ledger(crew_url)
    assert (second["result_json"]["topic"], second["result_json"]["tone"]) == ("dams", "dry")
    assert (third["result_json"]["topic"], third["result_json"]["tone"]) == ("docks", "warm")
    asked = [entry["restore_from"] for entry in found["kickoffs"]]
    assert asked == [None, first["kickoff_id"], None, STATE_ID]
