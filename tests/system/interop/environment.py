"""A complete bridge with its environment, and everything it sent: messages, replies, callbacks."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aio_pika import connect
from aio_pika.abc import AbstractIncomingMessage
from aiohttp import web

from bridge import daemon, sandbox
from bridge.adapters.amqp.topology import Topology
from bridge.config import load
from bridge.sandbox import SandboxSettings, parse_run_time
from tests.amqp_client import Client, client_of, eventually
from tests.patience import PATIENCE
from tests.system.interop import javascript
from tests.web_server import web_server

NEW = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OLD = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
SECRETS = (NEW, OLD)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
META = {"größe": "🦉", "order": 42, "ratio": 0.5, "none": None}
FINAL = ("run.succeeded", "run.failed")


@dataclass
class Results:
    """Everything received; the end of the first run twice, because a redelivery was requested."""

    messages: list[AbstractIncomingMessage] = field(default_factory=list)
    replies: list[AbstractIncomingMessage] = field(default_factory=list)
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    read_by_javascript: list[Any] = field(default_factory=list)
    posted_to_javascript: list[Any] = field(default_factory=list)

    def message(self, key: str) -> AbstractIncomingMessage:
        """The first message with this routing key."""
        return next(message for message in self.messages if message.routing_key == key)


async def gather(folder: Path, amqp_url: str, mode: str, *, with_javascript: bool) -> Results:
    """Send three requests: a successful one, one that the crew refuses, and an invalid one; return what is received."""
    results, topology = Results(), Topology(f"{mode}.requests", f"{mode}.results", f"{mode}.dead")
    async with AsyncExitStack() as stack:
        own_url = await stack.enter_async_context(_receiver(results))
        request: dict[str, Any] = {"inputs": {"topic": "Füchse"}, "meta": META}
        if with_javascript:
            script, ready = await stack.enter_async_context(javascript.running("receiver.mjs", *SECRETS))
            results.posted_to_javascript, request["callback_url"] = script.values, ready["url"]
        bridge = await stack.enter_async_context(_bridge(folder, amqp_url, topology, mode, own_url))
        client = await stack.enter_async_context(client_of(amqp_url, topology))
        await stack.enter_async_context(_consumer(amqp_url, topology.results, results.messages))
        if with_javascript:
            script, _ = await stack.enter_async_context(javascript.running("consumer.mjs", amqp_url, topology.results))
            results.read_by_javascript = script.values
        await client.channel.declare_queue("reply.shop", exclusive=True)
        await _send(client, topology, request)
        await eventually(lambda: _finals(results, with_javascript=with_javascript))
        results.replies = await client.receive("reply.shop", await client.count("reply.shop"))
        await _redeliver(bridge, results)
    return results


async def _send(client: Client, topology: Topology, request: Mapping[str, Any]) -> None:
    where = {"exchange": topology.requests, "reply_to": "reply.shop"}
    traced: dict[str, Any] = {"correlation_id": "shop/1", "headers": {"traceparent": TRACE}}
    await client.send(b"{oops", "research", **where, message_id="order-0")
    await client.send(dict(request), "research", **where, message_id="order-1", **traced)
    await client.send({"inputs": {"topic": "owls"}}, "closed", exchange=topology.requests, message_id="order-2")


def _finals(results: Results, *, with_javascript: bool) -> bool:
    """Whether the ends of both runs have reached all their destinations."""
    done = {message.type for message in results.messages} >= set(FINAL)
    done = done and any(b'"run.succeeded"' in body for _, body in results.posts)
    if not with_javascript:
        return done
    read = {line["event"]["type"] for line in results.read_by_javascript}
    posted = {line["event"]["type"] for line in results.posted_to_javascript if "event" in line}
    refused = any("refused" in line for line in results.posted_to_javascript)
    return done and read >= set(FINAL) and (refused or "run.succeeded" in posted)


async def _redeliver(bridge: str, results: Results) -> None:
    """Redeliver the end of the first run to all destinations; return when it has arrived by message and by callback."""
    event_id = results.message("research.succeeded").message_id
    async with aiohttp.ClientSession(bridge) as session:

        async def delivered() -> list[str]:
            async with session.get("/v1/deliveries?limit=200&state=delivered") as response:
                found = (await response.json())["deliveries"]
            return [one["id"] for one in found if one["event_id"] == event_id]

        async def everywhere() -> bool:
            return len(await delivered()) == 3 + bool(results.posted_to_javascript)

        await eventually(everywhere)  # a delivery in progress is not redelivered
        for delivery_id in await delivered():
            async with session.post(f"/v1/deliveries/{delivery_id}/redeliver") as response:
                assert response.status == 200
    await eventually(lambda: [message.message_id for message in results.messages].count(event_id) == 2)
    await eventually(lambda: [headers["webhook-id"] for headers, _ in results.posts].count(event_id or "") == 2)


@asynccontextmanager
async def _receiver(results: Results) -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        results.posts.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=204)

    async with web_server(web.post("/", take)) as url:
        yield f"{url}/"


@asynccontextmanager
async def _consumer(url: str, exchange: str, into: list[AbstractIncomingMessage]) -> AsyncIterator[None]:
    async def keep(message: AbstractIncomingMessage) -> None:
        into.append(message)

    async with await connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(keep, no_ack=True)
        yield


@asynccontextmanager
async def _bridge(folder: Path, amqp_url: str, topology: Topology, mode: str, callback_url: str) -> AsyncIterator[str]:
    """A bridge that is ready; its URL."""
    refuses = {"on": "kickoff", "do": "http", "code": 422, "body": {"detail": "no"}, "times": None}
    async with (
        sandbox.running(SandboxSettings(run_time=parse_run_time("fixed:0.2"))) as open_crew,
        sandbox.running(SandboxSettings(faults=(refuses,))) as closed_crew,
    ):
        crew = {"url": open_crew, "token": "sandbox-token", "poll": {"min_interval": "100ms", "max_interval": "100ms"}}
        tree = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{folder}/bridge.db"},
            "amqp": {
                "url": amqp_url,
                "requests": topology.requests,
                "results": topology.results,
                "dead": topology.dead,
                "event_mode": mode,
            },
            "callbacks": {"secret": list(SECRETS), "allow_private": True},
            "crews": {
                "research": crew | {"callback_url": callback_url, "events": ["started"]},
                "closed": crew | {"url": closed_crew},
            },
        }
        file = folder / "bridge.yaml"
        file.write_text(yaml.safe_dump(tree))
        async with daemon.serving(load(file, environ={})) as url, aiohttp.ClientSession(url) as session:
            await eventually(lambda: _is_ready(session))
            yield url


async def _is_ready(session: aiohttp.ClientSession) -> bool:
    async with session.get("/readyz") as response:
        document = await response.json()
        return bool(document["status"] == "ready")


def collected(folder: Path, amqp_url: str, mode: str, *, with_javascript: bool) -> Results:
    """The same, on an event loop of its own."""

    async def in_time() -> Results:
        async with asyncio.timeout(PATIENCE):
            return await gather(folder, amqp_url, mode, with_javascript=with_javascript)

    return asyncio.run(in_time())
