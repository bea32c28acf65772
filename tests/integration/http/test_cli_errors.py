"""Commands that a bridge refuses name what to set."""

import asyncio

from typer.testing import CliRunner

from bridge.cli import app
from bridge.cli._errors import CommandFailed, Exit
from tests.http_client import serving


async def test_a_missing_token_names_the_variable() -> None:
    async with serving() as bridge:
        arguments = ["runs", "list", "--url", f"http://127.0.0.1:{bridge.port}"]
        refused = (await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"BRIDGE_TOKEN": None})).exception
    assert isinstance(refused, CommandFailed)
    assert (refused.code, len(refused.lines)) == (Exit.USAGE, 2)
    assert "BRIDGE_TOKEN" in refused.lines[1]
