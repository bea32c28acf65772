"""Commands that call a bridge, within the process of the test."""

import asyncio
from typing import Any

from typer.testing import CliRunner

from bridge.cli import app
from bridge.cli._errors import CommandFailed, Exit
from tests.http_client import TOKENS, Bridge, serving


async def called(bridge: Bridge, *arguments: str, client: str | None = "operator") -> Any:
    environ = {"BRIDGE_URL": f"http://127.0.0.1:{bridge.port}", "BRIDGE_TOKEN": client and TOKENS[client]}
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environ)


async def test_a_missing_token_names_the_variable() -> None:
    async with serving() as bridge:
        refused = (await called(bridge, "runs", "list", client=None)).exception
    assert isinstance(refused, CommandFailed)
    assert (refused.code, len(refused.lines)) == (Exit.USAGE, 2)
    assert "BRIDGE_TOKEN" in refused.lines[1]


async def test_the_crews_are_listed_with_whether_they_are_usable() -> None:
    async with serving() as bridge:
        listed = await called(bridge, "crews", "list")
    rows = [line.split()[:4] for line in listed.output.splitlines() if line.startswith(("research", "triage"))]
    assert [row[1] for row in rows] == ["yes", "no:"]
    assert rows[1][2:] == ["HTTP", "401"]
