"""The promises hold for the real process under load, kills, broker restarts, and signals."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.broker import Broker
from tests.patience import patience_with
from tests.system.acceptance.harness import Daemon, drain, eventually, ledger, posts_per_request, publish


def requests(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"crew": "research", "inputs": {"n": str(number)}} for number in range(start, start + count)]


async def submit(daemon: Daemon, requested: list[dict[str, Any]]) -> None:
    async with aiohttp.ClientSession() as session:
        for request in requested:
            headers = {"Idempotency-Key": request["inputs"]["n"]}
            async with session.post(f"{daemon.url}/v1/runs", json=request, headers=headers) as response:
                assert response.status == 202, await response.text()


async def all_ended(daemon: Daemon, count: int) -> None:
    async def met() -> bool:
        try:
            return await daemon.count("succeeded", "failed", "timed_out", "in_doubt") >= count
        except aiohttp.ClientError:
            return False

    await eventually(met, f"{count} runs have ended", patience_with(count))


async def test_every_request_over_http_and_amqp_runs_once_and_ends_with_one_event(
    daemon: Daemon, amqp: str, crew_url: str
) -> None:
    """400 requests over RabbitMQ, half of them sent twice, and 100 over HTTP."""
    by_queue, by_http = requests(400), requests(100, start=400)
    await asyncio.gather(
        publish(amqp, by_queue[:200]),
        publish(amqp, by_queue[200:]),
        publish(amqp, by_queue[:200]),
        submit(daemon, by_http),
    )
    await all_ended(daemon, 500)
    results = await drain(amqp, 500)

    assert posts_per_request(await ledger(crew_url)) == dict.fromkeys((str(number) for number in range(500)), 1)
    assert len(await daemon.all_runs()) == 500
    finals = results.final_events()
    assert len(finals) == 500
    assert all(types == ["run.succeeded"] for types in finals.values())
    assert results.duplicates == 0


@pytest.mark.nightly
async def test_ten_kills_lose_nothing_and_post_nothing_twice(
    daemon: Daemon, amqp: str, crew_url: str, record_property: Callable[[str, object], None]
) -> None:
    """Only runs with a POST in flight may be in doubt; repeated events have equal ids and bytes."""
    producing = asyncio.create_task(publish(amqp, requests(1000), retry=True))
    for number in range(1, 11):
        await ended_or_running(daemon, number * 80)
        await daemon.kill()
        await daemon.start()
    await producing
    await all_ended(daemon, 1000)
    runs = await daemon.all_runs()
    in_doubt = [run for run in runs if run["state"] == "in_doubt"]
    results = await drain(amqp, 1000 - len(in_doubt))
    posts = posts_per_request(await ledger(crew_url))

    assert len(runs) == 1000
    assert max(posts.values()) == 1
    assert len(in_doubt) <= 10 * 64, "no more than could be in flight at each kill"
    finals = results.final_events()
    assert set(finals) == {run["run_id"] for run in runs} - {run["run_id"] for run in in_doubt}
    assert all(len(types) == 1 for types in finals.values())
    assert all(len(bodies) == 1 for bodies in results.bodies.values())
    record_property("in_doubt", len(in_doubt))
    record_property("repeated_events", results.duplicates)


async def ended_or_running(daemon: Daemon, count: int) -> None:
    async def met() -> bool:
        return await daemon.count("starting", "running", "succeeded", "in_doubt") >= count

    await eventually(met, f"{count} runs were started")


@pytest.mark.nightly
async def test_three_broker_restarts_lose_nothing(daemon: Daemon, node: Broker, amqp: str, crew_url: str) -> None:
    """The daemon recovers by itself; events wait in the store while the broker is unavailable."""
    producing = asyncio.create_task(publish(amqp, requests(1000), retry=True))
    for number in range(1, 4):
        await ended_or_running(daemon, number * 200)
        await asyncio.to_thread(node.stop)
        status, body = await daemon.get("/healthz")
        assert status == 200, body
        await asyncio.to_thread(node.start)
    await producing
    await all_ended(daemon, 1000)
    results = await drain(amqp, 1000)

    assert posts_per_request(await ledger(crew_url)) == dict.fromkeys((str(n) for n in range(1000)), 1)
    assert len(results.final_events()) == 1000
    assert all(len(bodies) == 1 for bodies in results.bodies.values())
    assert daemon.log_events()["started"] == 1


@pytest.mark.nightly
async def test_sigterm_under_load_ends_with_0_and_aborts_no_post(tmp_path: Path, amqp: str) -> None:
    """Each POST takes half a second, so several are in flight when the signal arrives."""
    slow = SandboxSettings(run_time=parse_run_time("uniform:0.1:1"), inputs=("n",), kickoff_delay=0.5)
    async with running(slow) as crew_url:
        daemon = Daemon(tmp_path, crew_url, amqp={"url": amqp})
        await daemon.start()
        try:
            await publish(amqp, requests(300))
            await ended_or_running(daemon, 60)
            code = await daemon.terminate()
            await daemon.start()
            in_doubt = await daemon.count("in_doubt")
            await all_ended(daemon, 300)

            assert code == 0
            assert in_doubt == 0, "an aborted POST would be in doubt"
            assert posts_per_request(await ledger(crew_url)) == dict.fromkeys((str(n) for n in range(300)), 1)
        finally:
            await daemon.close()
