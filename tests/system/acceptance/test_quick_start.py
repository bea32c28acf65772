"""The quick starts of the README and the pages on HTTP and RabbitMQ, which a shell runs with other addresses."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.system.acceptance.harness import free_port
from tests.system.interop import javascript

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text("utf-8")
HTTP = (ROOT / "docs" / "integrate-http.md").read_text("utf-8")
RABBITMQ = (ROOT / "docs" / "integrate-rabbitmq.md").read_text("utf-8")
BROKER = "amqp://guest:guest@127.0.0.1:5672/"


def blocks(page: str, begin: str, end: str) -> str:
    """The shell commands of a section."""
    section = page[page.index(begin) : page.index(end)]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE))


async def pasted(commands: str, folder: Path, replaced: Sequence[tuple[str, str]]) -> str:
    """Let a shell run the commands in a folder that looks like a checkout; return what they print."""
    for old, new in replaced:
        assert old in commands
        commands = commands.replace(old, new)
    (folder / ".venv").symlink_to(sys.prefix)
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", commands), cwd=folder, env={**os.environ, "PATH": path},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        printed, _ = await shell.communicate()
    assert shell.returncode == 0, printed.decode()
    return printed.decode()


async def test_over_http(tmp_path: Path):
    crew, bridge = free_port(), free_port()
    commands = blocks(README, "### Over HTTP", "### Over RabbitMQ")
    ready = f"until curl -sf 127.0.0.1:{bridge}/readyz >/dev/null; do sleep 0.1; done\n"
    printed = await pasted(
        commands,
        tmp_path,
        [
            ("http://127.0.0.1:8090", f"http://127.0.0.1:{crew}"),
            ("kickoff-bridge sandbox", f"kickoff-bridge sandbox --port {crew}"),
            ("YAML\n.venv", f"http: {{port: {bridge}}}\nYAML\n.venv"),
            ("localhost:8080", f"127.0.0.1:{bridge}"),
            (".venv/bin/kickoff-bridge send", f"{ready}.venv/bin/kickoff-bridge send"),  # 10 s may be too short here
        ],
    )
    sent, _, submitted = printed.partition("\n{\n")
    assert "result: The sandbox crew has dealt with topic: tidal power." in sent
    run, _, listed = submitted.partition("\n}\n")
    assert '"result": "The sandbox crew has dealt with topic: tidal power."' in run
    assert '"order": 42' in run
    assert listed.count("succeeded") == 2


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
async def test_over_http_with_a_receiver(tmp_path: Path):
    commands, port = blocks(HTTP, "## Quick start", "## Clients and roles"), str(free_port())
    printed = await pasted(commands, tmp_path, [("9000", port)])
    assert "run.succeeded {'order': 42} The sandbox crew has dealt with topic: tidal power." in printed.splitlines()


async def test_over_rabbitmq_with_pika(tmp_path: Path, amqp: str):
    commands = blocks(README, "### Over RabbitMQ", "## Who it is for")
    printed = await pasted(commands, tmp_path, [(BROKER, amqp)])
    assert printed.splitlines()[-1] == "run.succeeded {'order': 42} The sandbox crew has dealt with topic: tidal power."


@pytest.mark.nightly
async def test_over_rabbitmq_with_amqplib(tmp_path: Path, amqp: str):
    if (reason := await asyncio.to_thread(javascript.why_not)) is not None:
        pytest.skip(reason)
    commands = blocks(RABBITMQ, "## Quick start", "## Send requests")
    (tmp_path / "node_modules").symlink_to(javascript.FOLDER / "node_modules")
    printed = await pasted(commands, tmp_path, [(BROKER, amqp), ("npm install --silent amqplib\n", "")])
    assert printed.splitlines()[-1] == "run.succeeded { order: 42 } The sandbox crew has dealt with topic: tidal power."
