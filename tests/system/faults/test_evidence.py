"""Evidence of executions: once a crew webhook is answered, no kill can lose what it reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests import crew_events
from tests.system.acceptance.harness import Daemon, eventually
from tests.web_server import web_server

RUNS = 20


class SilentCrew:
    """A crew API that starts executions and answers no kickoff."""

    def __init__(self) -> None:
        self.url = ""
        self.kickoffs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def kickoff(self, request: web.Request) -> web.Response:
        await self.kickoffs.put(await request.json())
        await asyncio.Event().wait()
        raise AssertionError

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response({"state": "SUCCESS", "status": None, "result": "Tides are useful."})

    async def inputs(self, _: web.Request) -> web.Response:
        return web.json_response({"inputs": []})


@asynccontextmanager
async def silent_crew() -> AsyncIterator[SilentCrew]:
    crew = SilentCrew()
    routes = (
        web.get("/inputs", crew.inputs),
        web.post("/kickoff", crew.kickoff),
        web.get("/status/{kickoff_id}", crew.status),
    )
    async with web_server(*routes) as crew.url:
        yield crew


@pytest.mark.parametrize("event", ["start", pytest.param("end", marks=pytest.mark.nightly)])
async def test_a_kill_right_after_the_response_to_a_webhook_leaves_no_run_in_doubt(
    tmp_path: Path, full: bool, event: str
) -> None:
    at_once = 1 if full else 10
    async with silent_crew() as crew, aiohttp.ClientSession() as session:
        daemon = Daemon(tmp_path, crew.url, {"kind": "flow"}, log={"level": "info"})
        daemon.change(public_url=daemon.url)
        try:
            for first in range(0, RUNS, at_once):
                await daemon.start()
                for number in range(first, first + at_once):
                    request = {"crew": "research", "inputs": {"n": str(number)}}
                    async with session.post(f"{daemon.url}/v1/runs", json=request) as response:
                        assert response.status == 202, await response.text()
                bodies = [await crew.kickoffs.get() for _ in range(at_once)]
                await asyncio.gather(*(report(session, body, event) for body in bodies))
                await daemon.kill()
            await daemon.start()

            async def all_found() -> bool:
                return await daemon.count("succeeded") == RUNS

            await eventually(all_found, f"{RUNS} executions are found")
        finally:
            await daemon.close()


async def report(session: aiohttp.ClientSession, kickoff: dict[str, Any], event: str) -> None:
    """Send the webhook of an execution's start or end, and wait for the response."""
    events = crew_events.flow_with_crew(f"execution-{kickoff['inputs']['n']}")
    reported = events[0] if event == "start" else events[-1]
    async with session.post(kickoff["webhooks"]["url"], json={"events": [reported]}) as response:
        assert response.status == 204
