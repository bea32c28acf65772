"""Hooks end to end: settings, the real store, and the sandbox, with webhooks signed by the senders' own libraries."""

import hmac
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from standardwebhooks import Webhook

from bridge import daemon
from bridge.config import Settings, load
from bridge.sandbox import SandboxSettings, running

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"topic": "otters and ünïcödé"}'


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    async with running(SandboxSettings(inputs=("topic",))) as crew_url:
        tree = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "crews": {"research": {"url": crew_url, "token": "sandbox-token"}},
            "hooks": {
                "shop": {
                    "crew": "research",
                    "verify": {"scheme": "standard-webhooks", "secret": SECRET},
                    "inputs": {"topic": "body.topic"},
                },
                "git": {
                    "crew": "research",
                    "verify": {"scheme": "github", "secret": "s"},
                    "inputs": {"topic": "body.topic"},
                },
            },
        }
        file = tmp_path / "bridge.yaml"
        file.write_text(yaml.safe_dump(tree))
        yield load(file, environ={})


async def post(url: str, headers: dict[str, str], body: str = BODY) -> tuple[int, Any]:
    sent = {"Content-Type": "application/json", **headers}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body.encode(), headers=sent) as response,
    ):
        return response.status, await response.json()


def standard(message_id: str, seconds: int, signature: str) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": str(seconds), "webhook-signature": signature}


def from_github(delivery: str) -> dict[str, str]:
    digest = hmac.digest(b"s", BODY.encode(), "sha256").hex()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery}


async def test_a_webhook_signed_by_the_python_library_is_accepted_and_its_id_is_the_key(settings: Settings):
    now = datetime.now(tz=UTC)
    signature = Webhook(SECRET).sign("msg_1", now, BODY)
    async with daemon.serving(settings) as url:
        status, run = await post(f"{url}/hooks/shop", standard("msg_1", int(now.timestamp()), signature))
    assert (status, run["idempotency_key"]) == (202, "msg_1")


async def test_a_replay_after_a_restart_is_the_same_run_under_any_delivery_id(settings: Settings):
    """GitHub signs only the body. A captured delivery could be sent again under other ids."""
    async with daemon.serving(settings) as url:
        _, first = await post(f"{url}/hooks/git", from_github("d-1"))
    async with daemon.serving(settings) as url:
        status, again = await post(f"{url}/hooks/git", from_github("d-2"))
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/runs") as response:
            runs = (await response.json())["runs"]
    assert (status, again["run_id"], len(runs)) == (202, first["run_id"], 1)


async def test_a_retry_with_a_new_timestamp_is_the_same_run(settings: Settings):
    now = int(time.time())
    async with daemon.serving(settings) as url:
        responses = [
            await post(f"{url}/hooks/shop", standard("msg_1", at, Webhook(SECRET).sign("msg_1", _date(at), BODY)))
            for at in (now - 5, now)
        ]
    assert responses[0] == responses[1]


async def test_an_input_that_the_crew_requires_and_the_hook_does_not_map_is_refused(settings: Settings):
    body = json.dumps({"topic": None})
    digest = hmac.digest(b"s", body.encode(), "sha256").hex()
    async with daemon.serving(settings) as url:
        status, document = await post(f"{url}/hooks/git", {"X-Hub-Signature-256": f"sha256={digest}"}, body)
    assert (status, document["field"]) == (422, "inputs.topic")


def _date(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
