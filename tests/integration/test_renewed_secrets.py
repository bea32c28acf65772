"""Secrets that change in their files while an assembled bridge runs: every part uses the new ones."""

import asyncio
import hashlib
import hmac
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import yaml

from bridge.composition.build import open_bridge
from bridge.config import load_renewable
from bridge.observability import redaction
from bridge.sandbox import SandboxSettings, running
from tests.system.acceptance.harness import eventually

TOKEN, OTHER = "token-" + "x" * 32, "other-" + "x" * 32


@dataclass
class Served:
    """A bridge whose secrets are files in `folder`."""

    url: str
    folder: Path
    http: aiohttp.ClientSession

    async def get(self, path: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.get(self.url + path, headers=headers) as response:
            return response.status

    async def hook(self, secret: str) -> int:
        body = b'{"topic": "peat"}'
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}
        async with self.http.post(f"{self.url}/hooks/shop", data=body, headers=headers) as response:
            return response.status

    async def question(self, secret: str) -> int:
        timestamp = str(int(time.time()))
        digest = hmac.new(secret.encode(), f"{timestamp}.{{}}".encode(), hashlib.sha256).hexdigest()
        headers = {"X-CrewAI-Signature": digest, "X-CrewAI-Timestamp": timestamp}
        async with self.http.post(f"{self.url}/amp/crews/research/human", data=b"{}", headers=headers) as response:
            return response.status

    def write(self, name: str, text: str) -> None:
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.rename(self.folder / name)


@asynccontextmanager
async def serving(folder: Path, crew_token: str) -> AsyncIterator[Served]:
    async with running(SandboxSettings(inputs=("topic",))) as crew_url, aiohttp.ClientSession() as http:
        files = {"client": TOKEN, "crew": crew_token, "hook": "first", "human": "first"}
        for name, text in files.items():
            (folder / name).write_text(text)
        verify = {"scheme": "github", "secret_file": f"{folder}/hook"}
        document: dict[str, Any] = {
            "http": {"port": 0, "clients": [{"name": "a", "token_file": f"{folder}/client", "roles": ["operate"]}]},
            "store": {"url": f"sqlite:///{folder}/bridge.db"},
            "crews": {
                "research": {
                    "url": crew_url,
                    "token_file": f"{folder}/crew",
                    "human": {"secret_file": f"{folder}/human"},
                }
            },
            "hooks": {"shop": {"crew": "research", "verify": verify, "inputs": {"topic": "topic"}}},
        }
        (folder / "bridge.yaml").write_text(yaml.safe_dump(document))
        settings, renewable = load_renewable(folder / "bridge.yaml", environ={})
        async with open_bridge(settings, renewable, migrate=True) as bridge:
            supervisor = await bridge.start()
            try:
                yield Served(f"http://127.0.0.1:{bridge.servers[0].port}", folder, http)
            finally:
                await supervisor.stop(asyncio.Event())


async def becomes(request: Callable[[], Awaitable[int]], expected: int) -> None:
    async def met() -> bool:
        return await request() == expected

    await eventually(met, f"the answer is {expected}")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, "sandbox-token") as one:
        yield one


async def test_the_token_of_a_client(served: Served):
    assert [await served.get("/v1/crews", token) for token in (TOKEN, OTHER)] == [200, 401]
    served.write("client", OTHER)
    await becomes(lambda: served.get("/v1/crews", OTHER), 200)
    assert await served.get("/v1/crews", TOKEN) == 401


async def test_the_secret_of_a_hook(served: Served):
    assert [await served.hook(secret) for secret in ("first", "second")] == [202, 401]
    served.write("hook", "second")
    await becomes(lambda: served.hook("second"), 202)
    assert await served.hook("first") == 401


async def test_the_secret_of_flow_questions(served: Served):
    assert [await served.question(secret) for secret in ("first", "second")] == [204, 401]
    served.write("human", "second")
    await becomes(lambda: served.question("second"), 204)
    assert await served.question("first") == 401


async def test_a_new_secret_is_redacted_in_the_log_before_it_is_used(served: Served):
    stream = io.StringIO()
    structlog.configure(
        processors=[redaction.Redaction(), structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    try:
        served.write("client", OTHER)
        await becomes(lambda: served.get("/v1/crews", OTHER), 200)
        structlog.get_logger().info("said", text=OTHER)
    finally:
        structlog.reset_defaults()
    assert '"text": "***"' in stream.getvalue()


async def test_the_token_of_a_crew(tmp_path: Path):
    """Kickoffs, polls, and the probe of a paused crew use the same client."""
    async with serving(tmp_path, "no-longer-valid") as served:
        served.write("crew", "sandbox-token")
        served.write("hook", "second")  # read after it in the same check
        await becomes(lambda: served.hook("second"), 202)
        assert await served.get("/v1/crews/research/inputs", TOKEN) == 200


async def test_an_invalid_secret_changes_nothing(served: Served):
    served.write("client", "not good")
    served.write("hook", "second")  # read after it in the same check
    await becomes(lambda: served.hook("second"), 202)
    assert await served.get("/v1/crews", TOKEN) == 200
