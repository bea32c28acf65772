"""Schemathesis calls a complete bridge according to `/openapi.json`, and checks the responses against that document."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.testing import RunningBridge
from tests.patience import PATIENCE

EXAMPLES = int(os.environ.get("BRIDGE_SCHEMATHESIS", "3"))  # per operation, beside the fixed ones
SEED = ("--seed", "1") if EXAMPLES == 3 else ()  # many examples exist to find new cases
ROOT = Path(__file__).parents[2]
TOKEN = f"operator-token-{'x' * 32}"


@pytest.fixture
def crew_api_settings() -> dict[str, Any]:
    return {"inputs": ()}


@pytest.fixture
def kickoff_bridge_settings() -> dict[str, Any]:
    crew = {"requests_per_second": 1000}
    client = {"name": "all", "token": TOKEN, "roles": ["submit", "read", "operate"]}
    hook = {
        "crew": "research",
        "verify": {"scheme": "none", "allow_unverified": True},
        "inputs": {"topic": "'peat'"},
    }
    return {
        "http": {"requests_per_second": 1e6, "clients": [client]},
        "crews": {"research": crew, "my-crew": crew},
        "hooks": {"open": hook},
    }


@pytest.fixture
def delivery_id(kickoff_bridge: RunningBridge) -> str:
    """Of an ended run."""
    run_id = kickoff_bridge.submit({"topic": "peat"}, callback_url="https://receiver.invalid/")
    kickoff_bridge.wait_for_event(run_id=run_id, within=PATIENCE)
    return str(kickoff_bridge.run(run_id)["deliveries"][0]["id"])


@pytest.mark.timeout(120 + 60 * EXAMPLES)
async def test_no_response_contradicts_the_document(
    kickoff_bridge: RunningBridge, delivery_id: str, tmp_path: Path
) -> None:
    """Every operation, with valid and invalid data, in sequences of linked calls."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("st"),
        *(
            "--config-file",
            str(ROOT / "tests/integration/schemathesis.toml"),
            "run",
            f"{kickoff_bridge.url}/openapi.json",
        ),
        *("--max-examples", str(EXAMPLES), "--no-color", *SEED),
        cwd=tmp_path,
        env={
            **os.environ,
            "BRIDGE_TOKEN": TOKEN,
            "DELIVERY_ID": delivery_id,
            "PYTHONPATH": str(ROOT),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
