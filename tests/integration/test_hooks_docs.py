"""The examples of docs/hooks.md, run unchanged against a bridge with the settings of the page."""

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from bridge.testing import RunningBridge
from tests.patience import PATIENCE

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
def crew_api_settings() -> dict[str, Any]:
    return {"inputs": ("title", "text")}


@pytest.fixture
def kickoff_bridge_settings() -> dict[str, Any]:
    """The first block is the section, the others extend it."""
    blocks = "".join(re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    return {"crews": {"triage": {}}, **yaml.safe_load(Template(blocks).substitute(SECRETS))}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda block: re.findall(r"/hooks/([\w-]+)", block)[0])
async def test_the_examples_of_the_page_start_runs(kickoff_bridge: RunningBridge, command: str, tmp_path: Path):
    script = command.replace("http://127.0.0.1:8080", kickoff_bridge.url)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-ec", script), cwd=tmp_path, env={**os.environ, **SECRETS}, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    head, _, body = printed.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 202"), printed.decode()
    assert json.loads(body)["crew"] == "triage"
    # otherwise a call to the crew could begin while that stops
    kickoff_bridge.wait_for_event(run_id=json.loads(body)["run_id"], within=PATIENCE)


def test_the_page_has_an_example_of_each_scheme():
    assert len(COMMANDS) == 5
