"""The process and its machine: signals, core dumps, lost files, and the first log lines."""

import json
import os
import resource
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import aiohttp
import pytest

from tests.system.acceptance.harness import Daemon, eventually, free_port


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Path.unlink, "bridge.db was removed or replaced"),
        (lambda path: os.truncate(path, 4096), "bridge.db was truncated or overwritten"),
    ],
    ids=["removed", "truncated"],
)
async def test_the_process_ends_and_confirms_nothing_more_after_its_store_was_lost(
    tmp_path: Path, crew_url: str, loss: Callable[[Path], None], message: str
) -> None:
    """It responded with 202 and reported the store as readable; after a restart, the same keys were posted again."""
    daemon = Daemon(tmp_path, crew_url)
    await daemon.start()
    try:
        with closing(sqlite3.connect(tmp_path / "bridge.db")) as other:
            other.execute("PRAGMA wal_checkpoint").fetchall()  # before that, the file has one page
        assert await daemon.is_ready()  # it has seen the file grow
        loss(tmp_path / "bridge.db")
        with suppress(aiohttp.ClientError):  # it may have ended already
            async with aiohttp.ClientSession() as session:
                request = {"crew": "research", "inputs": {"n": 1}}
                async with session.post(f"{daemon.url}/v1/runs", json=request) as response:
                    assert response.status == 503
        assert await daemon.ended() == 74
    finally:
        await daemon.close()
    noticed_by_sqlite = "the store is damaged: database disk image is malformed"  # by a step, before it is checked
    assert any(text in daemon.log() for text in (message, noticed_by_sqlite))
    assert "Traceback" not in daemon.log()


async def test_the_process_ends_within_seconds_without_any_request_and_dumps_no_core(
    tmp_path: Path, crew_url: str
) -> None:
    """A core contained every token."""
    daemon = Daemon(tmp_path, crew_url)
    await daemon.start()
    try:
        assert resource.prlimit(daemon.pid, resource.RLIMIT_CORE) == (0, 0)
        (tmp_path / "bridge.db.kickoffs").unlink()
        assert await daemon.ended() == 74
    finally:
        await daemon.close()


async def test_the_first_log_lines_name_the_connections_without_passwords(tmp_path: Path, crew_url: str) -> None:
    broker = f"127.0.0.1:{free_port()}/orders"
    daemon = Daemon(tmp_path, crew_url, amqp={"url": f"amqp://user:hush-hush@{broker}"})

    async def started() -> bool:
        return bool(daemon.log_events()["started"])

    await daemon.spawn()
    try:
        await eventually(started, "the daemon has started")
    finally:
        await daemon.kill()
    [line] = [line for line in map(json.loads, daemon.log().splitlines()) if line["event"] == "started"]
    assert (line["store"], line["broker"]) == (f"{tmp_path}/bridge.db", broker)
    assert "hush-hush" not in daemon.log()
