"""Signed times and a changed system clock: senders and receivers use their own clocks.

The wall clock and the monotonic clock of the whole bridge are set by hand, as if the machine had slept, or NTP had
corrected the clock after the start.
"""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
import yaml
from aiohttp import web
from standardwebhooks import Webhook
from typer.testing import CliRunner

from bridge import daemon
from bridge.cli import app as cli
from bridge.config import Settings, load
from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHARED = "shared-with-the-deployment"
BODY = '{"topic": "otters"}'
HOUR = 3600.0


@dataclass
class Machine:
    """The clocks of a machine: both advance, and the wall clock can be set (or continue while the machine sleeps)."""

    offset: float = 0.0

    def time(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    clocks = SimpleNamespace(time=machine.time, monotonic=time.monotonic)
    monkeypatch.setattr("bridge.adapters.clock.time", clocks)
    return machine


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    async with running(SandboxSettings(inputs=("topic",), run_time=parse_run_time("fixed:0.2"))) as crew_url:
        tree = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "crews": {
                "research": {"url": crew_url, "token": "sandbox-token"},
                "triage": {"url": crew_url, "token": "sandbox-token", "kind": "flow", "human": {"secret": SHARED}},
            },
            "callbacks": {"allow_private": True, "secret": SECRET},
            "hooks": {
                "shop": {
                    "crew": "research",
                    "verify": {"scheme": "standard-webhooks", "secret": SECRET},
                    "inputs": {"topic": "body.topic"},
                }
            },
        }
        file = tmp_path / "bridge.yaml"
        file.write_text(yaml.safe_dump(tree))
        yield load(file, environ={})


async def post(url: str, body: str, headers: dict[str, str]) -> int:
    sent = {"Content-Type": "application/json", **headers}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=sent) as response:
        return response.status


def signed(message_id: str, at: float) -> dict[str, str]:
    """Signed by the sender's own library at this time."""
    then = datetime.fromtimestamp(int(at), UTC)
    signature = Webhook(SECRET).sign(message_id, then, BODY)
    return {"webhook-id": message_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def signed_question(at: float) -> dict[str, str]:
    timestamp = str(int(at))
    digest = hmac.new(SHARED.encode(), f"{timestamp}.{{}}".encode(), hashlib.sha256).hexdigest()
    return {"X-CrewAI-Signature": digest, "X-CrewAI-Timestamp": timestamp}


@pytest.mark.parametrize("leap", [HOUR, -HOUR], ids=["slept or set forward", "set back"])
async def test_signed_times_are_checked_against_the_wall_clock_after_it_was_set(
    machine: Machine, settings: Settings, leap: float
) -> None:
    """After an hour of sleep, fresh webhooks were refused for some 20 hours, and hour-old ones were accepted."""
    async with daemon.serving(settings) as url:
        assert await post(f"{url}/hooks/shop", BODY, signed("before", machine.time())) == 202
        stale = machine.time()

        machine.offset += leap

        assert await post(f"{url}/hooks/shop", BODY, signed("fresh", machine.time())) == 202
        assert await post(f"{url}/hooks/shop", BODY, signed("stale", stale)) == 401
        assert await post(f"{url}/amp/crews/triage/human", "{}", signed_question(machine.time())) == 204
        assert await post(f"{url}/amp/crews/triage/human", "{}", signed_question(stale)) == 401


async def test_a_webhook_accepted_before_the_clock_was_set_back_is_not_accepted_again(
    machine: Machine, settings: Settings
) -> None:
    """A clock that is set back makes old signatures recent; the stored request is what prevents their replay."""
    async with daemon.serving(settings) as url:
        headers = signed("once", machine.time())
        assert await post(f"{url}/hooks/shop", BODY, headers) == 202
        machine.offset += HOUR
        assert await post(f"{url}/hooks/shop", BODY, headers) == 401
        machine.offset -= HOUR
        assert await post(f"{url}/hooks/shop", BODY, headers) == 202
        async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/runs") as response:
            assert len((await response.json())["runs"]) == 1


async def test_a_callback_is_signed_with_the_time_of_its_receiver(machine: Machine, settings: Settings) -> None:
    got: list[web.Request] = []

    async def take(request: web.Request) -> web.Response:
        got.append(request)
        return web.Response()

    receiver = web.Application()
    receiver.router.add_post("/", take)
    runner = web.AppRunner(receiver)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    try:
        async with daemon.serving(settings) as url:
            machine.offset += HOUR
            body = json.dumps({"crew": "research", "inputs": {"topic": "x"}, "callback_url": f"http://{host}:{port}/"})
            assert await post(f"{url}/v1/runs", body, {}) == 202

            async def called() -> bool:
                return bool(got)

            await eventually(called, "the callback")
    finally:
        await runner.cleanup()
    assert abs(float(got[0].headers["webhook-timestamp"]) - machine.time()) < 300


async def test_hooks_test_uses_the_clock_of_the_daemon(machine: Machine, settings: Settings, tmp_path: Path) -> None:
    stale = machine.time()
    machine.offset += HOUR
    (tmp_path / "body").write_text(BODY)
    command = ["hooks", "test", "shop", "--json", "--config", str(tmp_path / "bridge.yaml")]
    command += ["--body", str(tmp_path / "body")]

    async def verified(headers: dict[str, str]) -> bool:
        options = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
        return bool(json.loads(CliRunner().invoke(cli, command + options).stdout)["verified"])

    assert await verified(signed("fresh", machine.time()))
    assert not await verified(signed("stale", stale))
