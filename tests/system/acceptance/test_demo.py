"""The demo that stays: a console with a question and a run in doubt to play with, until it is interrupted."""

import asyncio
import re
import signal
import sys

import aiohttp

from tests.patience import PATIENCE
from tests.system.acceptance.harness import eventually


async def console_url(output: asyncio.StreamReader) -> str:
    """The URL that the demo prints once its first runs, and one event in full, have been shown."""
    shown = b""
    async with asyncio.timeout(PATIENCE):
        async for line in output:
            shown += line
            if found := re.match(rb"Console: (\S+)/ ", line):
                assert [
                    text for text in (b"3/3", b'\n  "type": "run.succeeded"', b"run.failed") if text not in shown
                ] == []
                return found[1].decode()
    raise AssertionError("the demo ended without a URL")


async def test_the_demo_stays_with_a_question_and_a_run_in_doubt():
    command = (sys.executable, "-m", "bridge", "demo", "--stay")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with aiohttp.ClientSession(await console_url(process.stdout)) as http:
            async with http.get("/") as page:
                assert (page.status, page.content_type) == (200, "text/html")

            async def listed(state: str) -> bool:
                async with http.get(f"/v1/runs?state={state}") as response:
                    return bool((await response.json())["runs"])

            for state in ("waiting_for_human", "in_doubt", "succeeded", "failed"):
                await eventually(lambda state=state: listed(state), f"a run is {state}")  # type: ignore[misc]
    finally:
        process.send_signal(signal.SIGINT)
        await process.stdout.read()
    assert await process.wait() == 0
