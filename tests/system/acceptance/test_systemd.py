"""The daemon as systemd sees it: what it sends to the socket of its unit, from the start to the end."""

import asyncio
import signal
import socket
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.system.acceptance.harness import Daemon


class Systemd:
    """The receiving end of the protocol."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(address)

    async def receive(self) -> str:
        """The next state."""
        async with asyncio.timeout(PATIENCE):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()

    async def next_change(self) -> str:
        """The next state other than that the watchdog is alive."""
        while (state := await self.receive()) == "WATCHDOG=1":
            pass
        return state

    def rest(self) -> Counter[str]:
        """The states that were not received yet."""
        states = Counter[str]()
        try:
            while True:
                states[self._socket.recv(4096).decode()] += 1
        except BlockingIOError:
            return states

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def started(
    folder: Path, crew_url: str, monkeypatch: pytest.MonkeyPatch, path: str | None = None
) -> AsyncIterator[tuple[Systemd, Daemon]]:
    """A daemon that was started by this systemd, right after it reported that it is ready."""
    name = uuid.uuid4().hex
    systemd, daemon = Systemd(path or f"\0{name}"), Daemon(folder, crew_url)
    monkeypatch.setenv("NOTIFY_SOCKET", path or f"@{name}")
    try:
        await daemon.spawn()
        assert await systemd.next_change() == "READY=1"
        yield systemd, daemon
    finally:
        await daemon.close()
        systemd.close()


async def test_it_is_ready_when_it_accepts_requests_is_alive_while_its_loop_runs_and_reports_its_stop(
    tmp_path: Path, crew_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(tmp_path, crew_url, monkeypatch, str(tmp_path / "notify")) as (systemd, daemon):
        status, _ = await daemon.get("/readyz")
        alive = [await systemd.receive() for _ in range(3)]
        daemon.send(signal.SIGTERM)
        stopping = await systemd.next_change()
        code = await daemon.ended()

    assert (status, alive, stopping, code) == (200, ["WATCHDOG=1"] * 3, "STOPPING=1", 0)


async def test_a_reload_is_reported_with_its_end_even_if_the_settings_are_rejected(
    tmp_path: Path, crew_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(tmp_path, crew_url, monkeypatch) as (systemd, daemon):
        for settings, event in (({"log": {"level": "debug"}}, "settings_reloaded"), ({"x": 1}, "settings_rejected")):
            before = time.monotonic_ns() // 1000
            assert (await daemon.reload(**settings))["event"] == event
            reloading, _, stamp = (await systemd.next_change()).partition("\nMONOTONIC_USEC=")
            assert (reloading, await systemd.next_change()) == ("RELOADING=1", "READY=1")
            assert before <= int(stamp) <= time.monotonic_ns() // 1000


async def test_a_daemon_that_cannot_start_is_never_ready(
    tmp_path: Path, crew_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    daemon = Daemon(tmp_path, crew_url, store={"url": f"sqlite:///{tmp_path}/missing/bridge.db"})
    await daemon.spawn()
    code = await daemon.ended()
    states = systemd.rest()
    systemd.close()

    assert (code, states) == (69, Counter())


async def test_a_socket_that_is_gone_is_logged_once_and_stops_nothing(
    tmp_path: Path, crew_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    daemon = Daemon(tmp_path, crew_url)
    await daemon.start()
    await daemon.reload()
    code = await daemon.terminate()

    assert (code, daemon.log_events()["systemd_unreachable"]) == (0, 1)
