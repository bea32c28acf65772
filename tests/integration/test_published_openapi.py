"""Schemathesis calls a complete bridge according to `/openapi.json`, and checks the responses against that document."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from bridge.composition.build import open_bridge
from bridge.config import load
from bridge.sandbox import SandboxSettings, running

EXAMPLES = int(os.environ.get("BRIDGE_SCHEMATHESIS", "3"))  # per operation, beside the fixed ones
SEED = ("--seed", "1") if EXAMPLES == 3 else ()  # many examples exist to find new cases
ROOT = Path(__file__).parents[2]
TOKEN = f"operator-token-{'x' * 32}"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Served:
    """A bridge with a delivery."""

    url: str
    delivery_id: str


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with running(SandboxSettings(inputs=())) as crew_url, aiohttp.ClientSession(headers=HEADERS) as http:
        crew = {"url": crew_url, "token": "sandbox-token", "requests_per_second": 1000}
        hook = {
            "crew": "research",
            "verify": {"scheme": "none", "allow_unverified": True},
            "inputs": {"topic": "'peat'"},
        }
        client = {"name": "all", "token": TOKEN, "roles": ["submit", "read", "operate"]}
        document = {
            "http": {"port": 0, "requests_per_second": 1e6, "clients": [client]},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "crews": dict.fromkeys(("research", "my-crew"), crew),
            "hooks": {"open": hook},
        }
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(document))
        async with open_bridge(load(tmp_path / "bridge.yaml", environ={}), migrate=True) as bridge:
            supervisor = await bridge.start()
            try:
                url = f"http://127.0.0.1:{bridge.servers[0].port}"
                yield Served(url, await _delivery_of_a_run(http, url))
            finally:
                await supervisor.stop(asyncio.Event())


async def _delivery_of_a_run(http: aiohttp.ClientSession, url: str) -> str:
    body = {"crew": "research", "inputs": {"topic": "peat"}, "callback_url": "https://receiver.invalid/"}
    async with http.post(f"{url}/v1/runs", json=body, headers={"Prefer": "wait=60"}) as response:
        run: dict[str, Any] = await response.json()
    return str(run["deliveries"][0]["id"])


@pytest.mark.timeout(120 + 60 * EXAMPLES)
async def test_no_response_contradicts_the_document(served: Served, tmp_path: Path) -> None:
    """Every operation, with valid and invalid data, in sequences of linked calls."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("st"),
        *("--config-file", str(ROOT / "tests/integration/schemathesis.toml"), "run", f"{served.url}/openapi.json"),
        *("--max-examples", str(EXAMPLES), "--no-color", *SEED),
        cwd=tmp_path,
        env={
            **os.environ,
            "BRIDGE_TOKEN": TOKEN,
            "DELIVERY_ID": served.delivery_id,
            "PYTHONPATH": str(ROOT),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
