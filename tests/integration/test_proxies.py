"""Calls to crews and callback URLs through a real forward proxy, tinyproxy."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.adapters.crew_api import HttpCrewApi, crew_sessions
from bridge.adapters.http_client import DIRECT, ProxyRule
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import CrewUnavailable, NotStarted, Pending, Running, Started
from bridge.core.delivery.outcome import Confirmed, Retryable
from bridge.sandbox.server import running
from bridge.sandbox.settings import SandboxSettings
from tests.fakes import HandClock
from tests.integration.callbacks.test_sender import delivery, listening
from tests.integration.test_crew_api import closed_port
from tests.patience import PATIENCE

TOKEN = "crew-token"
CREW = "https://crew.example.invalid"


@dataclass(frozen=True)
class ForwardProxy:
    """A running tinyproxy that requires a password and permits CONNECT to no port but 443."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://bridge:s3cret@127.0.0.1:{self.port}"

    @property
    def requests(self) -> int:
        """How many requests it has received."""
        return self.log.read_text().count("Request (file descriptor")


@asynccontextmanager
async def forward_proxy(folder: Path) -> AsyncIterator[ForwardProxy]:
    program = shutil.which("tinyproxy", path="/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin")
    assert program is not None, "tests/need-servers.sh installs it"
    proxy = ForwardProxy(await closed_port(), folder / "proxy.log")
    settings = folder / "tinyproxy.conf"
    settings.write_text(
        f'Port {proxy.port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nLogLevel Connect\nLogFile "{proxy.log}"\n'
        f"BasicAuth bridge s3cret\nConnectPort 443\nDisableViaHeader Yes\n"
    )
    process = await asyncio.create_subprocess_exec(program, "-d", "-c", str(settings))
    try:
        await _accepts_connections(proxy.port)
        yield proxy
    finally:
        process.terminate()
        await process.wait()


async def _accepts_connections(port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ForwardProxy]:
    async with forward_proxy(tmp_path) as running_proxy:
        yield running_proxy


@asynccontextmanager
async def crew_behind(proxy_url: str | None, crew_url: str) -> AsyncIterator[HttpCrewApi]:
    async with crew_sessions() as sessions:
        yield HttpCrewApi(crew_url, TOKEN, RateLimiter(), sessions, time.time, proxy=ProxyRule(proxy_url))


@asynccontextmanager
async def callbacks_through(rule: ProxyRule) -> AsyncIterator[CallbackSender]:
    async with callback_sessions(allow_private=True) as sessions:
        yield CallbackSender(sessions, SigningSecrets(), "1.2.3", HandClock(0.0), proxy=rule)


async def test_a_crew_is_called_through_the_proxy(proxy: ForwardProxy):
    async with running(SandboxSettings(token=TOKEN)) as url, crew_behind(proxy.url, url) as crew:
        started = await crew.kickoff({"inputs": {"topic": "peat"}})
        assert isinstance(started, Started)
        assert isinstance(await crew.status(started.kickoff_id), Pending | Running)
        assert proxy.requests == 2


@pytest.mark.parametrize(
    ("credentials", "port", "reason"),
    [("bridge:s3cret@", 8443, "HTTP 403"), ("bridge:wrong@", 443, "HTTP 401"), ("", 443, "HTTP 407")],
)
async def test_a_proxy_that_refuses_has_not_started_anything(
    proxy: ForwardProxy, credentials: str, port: int, reason: str
):
    """It does not connect to this port, or does not accept the password: the POST has not left."""
    async with crew_behind(f"http://{credentials}127.0.0.1:{proxy.port}", f"{CREW}:{port}") as crew:
        assert await crew.kickoff({"inputs": {}}) == NotStarted(f"refused by the proxy: {reason}")


async def test_a_proxy_that_wants_a_password_pauses_a_crew_without_tls(proxy: ForwardProxy):
    async with crew_behind(f"http://127.0.0.1:{proxy.port}", "http://crew.example.invalid") as crew:
        response = await crew.kickoff({"inputs": {}})
        assert isinstance(response, CrewUnavailable)
        assert response.reason.startswith("HTTP 407: ")


async def test_an_unreachable_proxy_has_not_started_anything():
    async with crew_behind(f"http://127.0.0.1:{await closed_port()}", CREW) as crew:
        assert await crew.kickoff({"inputs": {}}) == NotStarted("proxy not reachable")


async def test_a_callback_is_sent_through_the_proxy_byte_for_byte(proxy: ForwardProxy):
    async with listening() as receiver, callbacks_through(ProxyRule(proxy.url)) as sender:
        sent = delivery(receiver.url + "&a[]=%2F")
        assert await sender.send(sent) == Confirmed()
        assert (len(receiver.got), proxy.requests) == (1, 1)


async def test_a_callback_waits_for_a_proxy_that_is_not_reachable():
    async with callbacks_through(ProxyRule(f"http://127.0.0.1:{await closed_port()}")) as sender:
        sent = delivery("http://receiver.example/")
        assert await sender.send(sent) == Retryable("proxy not reachable")


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_environment_names_the_proxy_and_its_exceptions(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, scheme: str
):
    """As for curl, the scheme is optional; without it, every call failed as malformed."""
    monkeypatch.setenv("http_proxy", scheme + proxy.url.removeprefix("http://"))
    async with listening() as receiver, callbacks_through(ProxyRule("env")) as sender:
        sent = delivery(receiver.url)
        monkeypatch.setenv("no_proxy", "other.example")
        assert await sender.send(sent) == Confirmed()
        assert proxy.requests == 1
        monkeypatch.setenv("no_proxy", urlsplit(receiver.url).hostname or "")
        assert await sender.send(sent) == Confirmed()
        assert (proxy.requests, len(receiver.got)) == (1, 2)


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("https://10.1.2.3:8443", True),
        ("https://[fd00::1]", True),
        ("https://11.1.2.3", False),
        ("https://crew.cluster.local", True),
        ("https://crew.example", False),
    ],
)
def test_the_exceptions_may_be_networks(monkeypatch: pytest.MonkeyPatch, url: str, direct: bool):
    """As for curl and programs in Go; one that is not valid costs only itself."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8, fd00::/8,.cluster.local,not/a/network")
    assert (ProxyRule("env").proxy_for(url) is None) is direct


def test_by_default_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert DIRECT.proxy_for("https://crew.example") is None
