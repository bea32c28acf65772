"""Faults of webhooks in transit are drawn from a seeded generator; no webhook is retried."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.tcp_server import tcp_server

from .conftest import AT_ONCE, START, HandClock, Receiver, SandboxClient, Start


async def kick_off(sandbox_client: SandboxClient, receiver: Receiver, count: int = 1) -> None:
    for _ in range(count):
        await sandbox_client.kickoff_with({"taskWebhookUrl": f"{receiver.url}/task"})


def sent_after(ledger: Any) -> list[float]:
    return [round(note["sent_at"] - START, 3) for note in ledger["webhooks"]]


async def test_lost_webhooks_are_only_in_the_ledger(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(webhook_loss_rate=0.5)
    await kick_off(sandbox_client, receiver, 20)
    notes = (await sandbox_client.later(2))["webhooks"]
    lost = [note for note in notes if note["error"] == "lost"]
    assert len(notes) == 60
    assert 15 < len(lost) < 45
    await receiver.take(60 - len(lost))
    await sandbox_client.later()
    assert receiver.arrived.empty()


async def test_a_fraction_is_sent_twice(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(webhook_duplicate_rate=0.5)
    await kick_off(sandbox_client, receiver, 20)
    sent = await sandbox_client.sent(2)
    assert 75 < len(sent) < 105
    bodies = [delivery.raw for delivery in await receiver.take(len(sent))]
    assert len(set(bodies)) == 60


async def test_webhooks_are_late_by_no_more_than_the_delay(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(webhook_delay=60.0)
    await kick_off(sandbox_client, receiver)
    assert len(await sandbox_client.sent(2)) < 3
    for _ in range(60):
        ledger = await sandbox_client.later(1)
    assert len(ledger["webhooks"]) == 3
    assert sent_after(ledger) == sorted(sent_after(ledger))


async def test_shuffled_webhooks_overtake_each_other(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(webhook_reorder=True, run_time=parse_run_time("fixed:9"))
    hooks = {"taskWebhookUrl": f"{receiver.url}/task", "stepWebhookUrl": f"{receiver.url}/step"}
    for _ in range(5):
        await sandbox_client.kickoff_with(hooks)
    by_run: dict[str, list[str]] = {}
    for _ in range(130):
        ledger = await sandbox_client.later(0.1)
    for note in ledger["webhooks"]:
        by_run.setdefault(note["kickoff_id"], []).append(note["kind"])
    in_order = ["step", "task", "step", "task", "task"]
    assert all(sorted(kinds) == sorted(in_order) for kinds in by_run.values())
    assert any(kinds != in_order for kinds in by_run.values())


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """A server that accepts connections and never responds."""

    async def take(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with tcp_server(take) as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_receiver_that_does_not_respond_times_out(start: Start) -> None:
    sandbox_client = await start(webhook_timeout=0.05)
    async with deaf() as url:
        await sandbox_client.kickoff_with({"crewWebhookUrl": url})
        await sandbox_client.later(2)
        while (note := (await sandbox_client.ledger())["webhooks"][0])["error"] is None:
            pass
    assert note["error"] == "SocketTimeoutError"


async def test_stopping_drops_webhooks_in_flight(clock: HandClock) -> None:
    async with deaf() as url, aiohttp.ClientSession() as session:
        settings = SandboxSettings(webhook_timeout=3600.0)
        async with asyncio.timeout(AT_ONCE), running(settings, clock) as sandbox:
            sandbox_client = SandboxClient(sandbox, clock, session)
            await sandbox_client.kickoff_with({"crewWebhookUrl": url})
            assert await sandbox_client.sent(2) == ["crew"]


async def test_the_same_seed_loses_the_same_webhooks(start: Start, receiver: Receiver) -> None:
    lost = []
    for _ in range(2):
        sandbox_client = await start(webhook_loss_rate=0.5, seed=5)
        await kick_off(sandbox_client, receiver, 5)
        lost.append([note["error"] == "lost" for note in (await sandbox_client.later(2))["webhooks"]])
    assert lost[0] == lost[1]
    assert set(lost[0]) == {True, False}
