"""Settings that change while the daemon works: SIGHUP applies them, and no request is lost or started twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import Daemon, eventually, ledger, posts_per_request

RESEARCH = {"token": "sandbox-token", "requests_per_second": 2000, "max_running": 400}
FAST = {"poll": {"min_interval": "300ms", "max_interval": "300ms"}}


@asynccontextmanager
async def crew(token: str = "sandbox-token", run_time: str = "uniform:0.1:1") -> AsyncIterator[str]:
    async with running(SandboxSettings(token=token, run_time=parse_run_time(run_time), inputs=("n",))) as url:
        yield url


async def submit(daemon: Daemon, crew_name: str, number: str) -> tuple[int, Any]:
    body = {"crew": crew_name, "inputs": {"n": number}}
    async with aiohttp.ClientSession() as http, http.post(f"{daemon.url}/v1/runs", json=body) as response:
        return response.status, await response.json()


async def publish(amqp: str, queue: str, body: bytes) -> None:
    async with await aio_pika.connect(amqp) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(body), queue, timeout=10)


async def state(daemon: Daemon, run_id: str) -> str:
    _, run = await daemon.get(f"/v1/runs/{run_id}")
    return str(run["state"])


def is_in(daemon: Daemon, run_id: str, *states: str) -> Callable[[], Awaitable[bool]]:
    async def met() -> bool:
        return await state(daemon, run_id) in states

    return met


@asynccontextmanager
async def load(daemon: Daemon) -> AsyncIterator[list[str]]:
    """Submit requests until the block ends; yield the ids of the runs so far."""
    run_ids, ending = list[str](), asyncio.Event()

    async def producing() -> None:
        while not ending.is_set():
            status, run = await submit(daemon, "research", f"load-{len(run_ids)}")
            assert status == 202
            run_ids.append(run["run_id"])
            await asyncio.sleep(0.02)  # a rate, not a wait for something

    task = asyncio.create_task(producing())
    try:
        yield run_ids
    finally:
        ending.set()
        await task


async def test_crews_come_change_and_go_under_load(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        research, slow, other = [
            await stack.enter_async_context(one) for one in (crew(), crew(run_time="fixed:5"), crew("other-token"))
        ]
        crews = {"research": {"url": research, **RESEARCH, **FAST}}
        daemon = Daemon(tmp_path, research, store={"url": f"sqlite:///{tmp_path}/bridge.db"}, crews=crews)
        await daemon.start()
        stack.push_async_callback(daemon.close)
        async with load(daemon) as run_ids:
            assert (await submit(daemon, "triage", "0"))[0] == 404
            added = await daemon.reload(crews=crews | {"triage": {"url": slow, "token": "sandbox-token", **FAST}})
            assert (added["event"], added["changed"]) == ("settings_reloaded", ["crews.triage"])
            status, run = await submit(daemon, "triage", "1")
            assert status == 202
            await eventually(is_in(daemon, run["run_id"], "running"), "the new crew works")

            removed = await daemon.reload(crews=crews)
            assert removed["changed"] == ["crews.triage"]
            assert (await submit(daemon, "triage", "2"))[0] == 404
            _, waiting = await daemon.get(f"/v1/runs/{run['run_id']}")
            assert waiting["waiting"]["reason"] == "crew_not_configured"

            await daemon.reload(crews=crews | {"triage": {"url": slow, "token": "sandbox-token", **FAST}})
            await eventually(is_in(daemon, run["run_id"], "succeeded"), "the returned crew ends its run")

            await daemon.reload(crews=crews | {"triage": {"url": other, "token": "other-token", **FAST}})
            _, run = await submit(daemon, "triage", "3")
            await eventually(is_in(daemon, run["run_id"], "succeeded"), "the crew has another address and token")

            slower = {"url": research, **RESEARCH, **FAST, "requests_per_second": 20}
            assert (await daemon.reload(crews={"research": slower}))["changed"] == ["crews.research", "crews.triage"]
            await daemon.reload(crews=crews)
        for run_id in run_ids:
            await eventually(is_in(daemon, run_id, "succeeded"), "every accepted run succeeds")
        posts = posts_per_request(await ledger(research))
        assert posts == {f"load-{number}": 1 for number in range(len(run_ids))}


async def test_invalid_settings_change_nothing(tmp_path: Path, crew_url: str) -> None:
    daemon = Daemon(tmp_path, crew_url)
    await daemon.start()
    try:
        rejected = await daemon.reload(crews={"research": {"url": "ftp://x", "token": ""}}, log={"level": "loud"})
        assert rejected["event"] == "settings_rejected"
        assert {line.partition(":")[0] for line in rejected["problems"]} == {
            "crews.research.url", "crews.research.token", "log.level",
        }  # fmt: skip
        status, run = await submit(daemon, "research", "1")
        assert status == 202
        await eventually(is_in(daemon, run["run_id"], "succeeded"), "the former settings stay in use")
    finally:
        await daemon.close()


async def test_what_needs_a_restart_is_named(tmp_path: Path, crew_url: str) -> None:
    daemon = Daemon(tmp_path, crew_url)
    await daemon.start()
    try:
        reloaded = await daemon.reload(
            http={"port": daemon.port + 1}, store={"url": f"sqlite:///{tmp_path}/x.db"}, log={"level": "debug"}
        )
        assert (reloaded["changed"], reloaded["needs_restart"]) == (["log.level"], ["http.port", "store.url"])
        assert await daemon.is_ready()
    finally:
        await daemon.close()


async def test_hooks_clients_and_sources_change(tmp_path: Path, crew_url: str, amqp: str) -> None:
    token = "abcdefghijklmnopqrstuvwxyz012345"
    hook = {"crew": "research", "verify": {"scheme": "bearer", "token": token}, "inputs": {"n": "body.number"}}
    source = {"queue": "orders", "crew": "research", "inputs": {"n": "body.number"}}
    daemon = Daemon(tmp_path, crew_url, amqp={"url": amqp})
    await daemon.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:

            async def call(path: str, **body: Any) -> int:
                async with http.post(f"{daemon.url}{path}", json=body) as response:
                    return response.status

            async def started(number: str) -> None:
                async def met() -> bool:
                    return posts_per_request(await ledger(crew_url))[number] == 1

                await eventually(met, f"request {number} starts an execution")

            assert await call("/hooks/shop", number="h1") == 404
            await daemon.reload(hooks={"shop": hook}, sources={"orders": source})
            assert await call("/hooks/shop", number="h1") == 202
            await started("h1")
            _, ready = await daemon.get("/readyz")
            assert "source/orders" in ready["parts"]
            await publish(amqp, "orders", b'{"number": "s1"}')
            await started("s1")

            changed = source | {"inputs": {"n": "body.other"}}
            await daemon.reload(hooks={"shop": hook | {"inputs": {"n": "body.other"}}}, sources={"orders": changed})
            assert await call("/hooks/shop", other="h2") == 202
            await publish(amqp, "orders", b'{"other": "s2"}')
            for number in ("h2", "s2"):
                await started(number)

            await daemon.reload(hooks={}, sources={}, http={
                "port": daemon.port, "clients": [{"name": "shop", "token": token, "roles": ["submit"]}],
            })  # fmt: skip
            assert await call("/hooks/shop", other="h3") == 404
            assert await call("/v1/runs", crew="research", inputs={"n": "c1"}) == 202
        assert (await daemon.get("/v1/runs"))[0] == 401
        _, ready = await daemon.get("/readyz")
        assert "source/orders" not in ready["parts"]
    finally:
        await daemon.close()
