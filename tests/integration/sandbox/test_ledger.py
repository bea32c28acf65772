"""The ledger records every kickoff before its response, and survives the process."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from bridge.sandbox.journal import Journal

from .conftest import START, HandClock, SandboxClient, Start


async def test_a_kickoff_is_in_the_ledger_with_all_its_details(start: Start, clock: HandClock) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff(meta={"requestId": "job-1"})
    ledger = await sandbox_client.ledger()
    assert (ledger["count"], ledger["started"]) == (1, 1)
    assert ledger["kickoffs"] == [
        {
            "number": 1,
            "received_at": START,
            "answered": 200,
            "inputs": {"topic": "tides"},
            "meta": {"requestId": "job-1"},
            "kickoff_id": kickoff_id,
            "starts_at": START,
            "ends_at": START + 2,
            "failure": None,
            "result": None,
            "result_json": None,
            "result_bytes": 0,
            "unnamed_tasks": False,
            "questions": 0,
            "questions_answered": 0,
            "repeats": 0,
            "lost": 0.0,
            "place": 0.0,
            "revoked": False,
            "restore_from": None,
            "restored": {},
            "ended_at": None,
            "end_seen_at": None,
        }
    ]


@pytest.mark.parametrize("number", [2**70 + 1, -(10**3000)], ids=["22 digits", "3001 digits"])
async def test_integers_of_any_size_are_in_the_ledger_as_sent(start: Start, number: int) -> None:
    sandbox_client = await start(kind="flow")
    await sandbox_client.kickoff({"n": number}, topic=number)
    [kickoff] = (await sandbox_client.ledger())["kickoffs"]
    assert (kickoff["inputs"]["topic"], kickoff["meta"]["n"]) == (number, number)


async def test_refused_kickoffs_are_in_the_ledger_with_their_code(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {}})
    await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {"topic": "x"}}, headers={})
    async with sandbox_client.call("POST", "/kickoff", data=b"{"):
        pass
    ledger = await sandbox_client.ledger()
    assert [(entry["answered"], entry["kickoff_id"]) for entry in ledger["kickoffs"]] == [
        (422, None),
        (401, None),
        (500, None),
    ]
    assert [entry["inputs"] for entry in ledger["kickoffs"]] == [{}, {"topic": "x"}, None]
    assert (ledger["count"], ledger["started"]) == (3, 0)


async def test_polls_are_counted_in_total_and_by_id(start: Start) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    await sandbox_client.states(kickoff_id, kickoff_id, "unknown")
    ledger = await sandbox_client.ledger()
    assert ledger["polls"] == 3
    assert ledger["polls_by_id"] == {kickoff_id: 2, "unknown": 1}


async def test_the_ledger_records_when_a_run_ended_and_when_that_was_first_polled(
    start: Start, clock: HandClock
) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    await sandbox_client.status(kickoff_id)
    for seconds in (5, 5):
        clock.forward(seconds)
        await sandbox_client.status(kickoff_id)
    entry = (await sandbox_client.ledger())["kickoffs"][0]
    assert (entry["ended_at"], entry["end_seen_at"]) == (START + 2, START + 5)


async def test_clearing_drops_ended_executions_and_keeps_running_ones(start: Start, clock: HandClock) -> None:
    sandbox_client = await start()
    ended, running_still = await sandbox_client.kickoff(), await sandbox_client.kickoff(sandbox_seconds=60)
    clock.forward(2)
    await sandbox_client.states(ended)
    async with sandbox_client.call("DELETE", "/_ledger", headers={}) as response:
        assert response.status == 204
    ledger = await sandbox_client.ledger()
    assert [entry["kickoff_id"] for entry in ledger["kickoffs"]] == [running_still]
    assert (ledger["polls"], ledger["polls_by_id"]) == (0, {})
    assert await sandbox_client.states(ended, running_still) == ["NOT FOUND", "STARTED"]


def file_ids(path: Path) -> list[Any]:
    return [orjson.loads(line)["kickoff_id"] for line in path.read_bytes().splitlines()]


async def test_an_answered_kickoff_is_in_the_file(start: Start, tmp_path: Path) -> None:
    sandbox_client = await start(ledger_file=tmp_path / "ledger")
    kickoff_ids = []
    for _ in range(3):
        kickoff_ids.append(await sandbox_client.kickoff())
        assert file_ids(tmp_path / "ledger") == kickoff_ids


async def test_a_kickoff_is_not_answered_before_it_is_on_disk(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox_client = await start(ledger_file=tmp_path / "ledger")
    may_write, fsync = threading.Event(), os.fsync

    def held_back(file: int) -> None:
        may_write.wait()
        fsync(file)

    monkeypatch.setattr(os, "fsync", held_back)
    kickoff = asyncio.create_task(sandbox_client.kickoff())
    while not (ledger := await sandbox_client.ledger())["count"]:
        pass
    assert not kickoff.done()
    may_write.set()
    assert await kickoff == ledger["kickoffs"][0]["kickoff_id"]


async def test_concurrent_kickoffs_share_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "ledger")
    writes: list[int] = []
    monkeypatch.setattr(os, "fsync", writes.append)
    await asyncio.gather(*(journal.append(b"%d" % number) for number in range(100)))
    journal.close()
    assert (tmp_path / "ledger").read_bytes() == b"".join(b"%d\n" % number for number in range(100))
    assert len(writes) <= 2


async def test_a_sandbox_started_on_an_old_file_knows_its_executions(clock: HandClock, tmp_path: Path) -> None:
    settings = SandboxSettings(ledger_file=tmp_path / "ledger", workers=1, run_time=parse_run_time("fixed:10"))
    async with aiohttp.ClientSession() as session:
        async with running(settings, clock) as url:
            first = await SandboxClient(url, clock, session).kickoff(sandbox_outcome="failure")
        async with running(settings, clock) as url:
            sandbox_client = SandboxClient(url, clock, session)
            second = await sandbox_client.kickoff()
            assert await sandbox_client.states(first, second) == ["STARTED", "PENDING"]
            clock.forward(10)
            assert await sandbox_client.states(first, second) == ["FAILED", "STARTED"]
            assert [entry["number"] for entry in (await sandbox_client.ledger())["kickoffs"]] == [1, 2]


async def test_a_last_line_truncated_by_a_crash_is_dropped(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b'{"number": 1, "receiv')
    sandbox_client = await start(ledger_file=path)
    kickoff_id = await sandbox_client.kickoff()
    assert file_ids(path) == [kickoff_id]


async def test_clearing_empties_the_file_and_later_kickoffs_are_appended(
    start: Start, clock: HandClock, tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    sandbox_client = await start(ledger_file=path)
    await sandbox_client.kickoff()
    running_still = await sandbox_client.kickoff(sandbox_seconds=60)
    clock.forward(2)
    async with sandbox_client.call("DELETE", "/_ledger"):
        pass
    later = await sandbox_client.kickoff()
    assert file_ids(path) == [running_still, later]
