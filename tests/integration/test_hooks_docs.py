"""The examples of docs/hooks.md, run unchanged against a bridge with the settings of the page."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from bridge import daemon
from bridge.config import load
from bridge.sandbox import SandboxSettings, running

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text("utf-8")
SECRETS = {
    "GITHUB_SECRET": "It's a Secret to Everybody",
    "STRIPE_SECRET": "whsec_test_secret",
    "SLACK_SIGNING_SECRET": "8f742231b10e8888abcd99yyyzzz85a5",
    "NEW_SECRET": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "OLD_SECRET": "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
    "PLAIN_SECRET": "sword fish",
}
COMMANDS = [block for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if "curl" in block]

pytestmark = pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("curl")), reason="needs openssl and curl")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with running(SandboxSettings(inputs=("title", "text"))) as crew_url:
        settings = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "crews": {"triage": {"url": crew_url, "token": "sandbox-token"}},
            # The first block is the section, the others extend it.
            **yaml.safe_load("".join(re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))),
        }
        file = tmp_path / "bridge.yaml"
        file.write_text(yaml.safe_dump(settings))
        async with daemon.serving(load(file, environ=SECRETS)) as url:
            yield url


@pytest.mark.parametrize("command", COMMANDS, ids=lambda block: re.findall(r"/hooks/([\w-]+)", block)[0])
async def test_the_examples_of_the_page_start_runs(url: str, command: str, tmp_path: Path):
    script = command.replace("http://127.0.0.1:8080", url)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-ec", script), cwd=tmp_path, env={**os.environ, **SECRETS}, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    head, _, body = printed.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 202"), printed.decode()
    assert json.loads(body)["crew"] == "triage"


def test_the_page_has_an_example_of_each_scheme():
    assert len(COMMANDS) == 5
