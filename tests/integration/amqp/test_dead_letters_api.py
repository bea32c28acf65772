"""Dead letters over HTTP, from a real broker: listed, sent back, and removed, one at a time."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aio_pika import Message
from aio_pika.abc import HeadersType
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from yarl import URL

from bridge.adapters.amqp.dead_letters import DeadLetterQueue
from bridge.adapters.amqp.topology import Topology, ensure_inbound
from bridge.adapters.http import problems
from bridge.adapters.http.api.dead_letters import DeadLettersApi
from bridge.adapters.http.auth import Clients
from bridge.ports.dead_letters import DeadLetters
from tests.amqp_client import Client
from tests.broker import UNREACHABLE, Broker
from tests.http_client import CLIENTS, bearer, problem


@dataclass
class Api:
    http: aiohttp.ClientSession
    server: BaseTestServer

    async def get(self, query: str = "", name: str = "operator") -> aiohttp.ClientResponse:
        return await self.http.get(self.server.make_url(f"/v1/dead-letters{query}"), headers=bearer(name))

    async def post(self, message: str, action: str) -> aiohttp.ClientResponse:
        url = URL(f"{self.server.make_url('/v1/dead-letters')}/{message}/{action}", encoded=True)
        return await self.http.post(url, headers=bearer("operator"))


async def serving(dead_letters: DeadLetters | None) -> AsyncIterator[Api]:
    app = web.Application(middlewares=[problems.middleware])
    app.add_routes(DeadLettersApi(dead_letters, Clients(CLIENTS)).routes())
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        yield Api(http, server)


@pytest.fixture
async def api(broker: Broker, client: Client, topology: Topology) -> AsyncIterator[Api]:
    """With three messages in the queue; the last one has no id."""
    await ensure_inbound(client.channel, topology)
    headers: HeadersType = {"x-bridge-reason": "unknown_crew", "x-bridge-original-routing_key": "research"}
    for message_id in ("order/1", "order 2", None):
        message = Message(b"{}" if message_id else b"nonsense", message_id=message_id, headers=headers)
        await client.channel.default_exchange.publish(message, topology.dead)
    async for api in serving(DeadLetterQueue([broker.url], topology)):
        yield api


async def listed(api: Api, query: str = "") -> tuple[list[str], int]:
    page = await (await api.get(query)).json()
    return [message["id"] for message in page["messages"]], page["total"]


async def test_the_oldest_are_listed_and_stay(api: Api, client: Client, topology: Topology):
    page = await (await api.get("?limit=1")).json()
    assert (page["total"], len(page["messages"])) == (3, 1)
    assert (page["messages"][0]["id"], page["messages"][0]["reason"]) == ("order/1", "unknown_crew")
    await client.until_count(topology.dead, 3)
    assert await listed(api, "?limit=0") == ([], 3)
    await problem(await api.get("?limit=101"), 422, "invalid_request")


async def test_one_is_sent_back_and_one_removed(api: Api, client: Client, topology: Topology):
    response = await api.post("order%2F1", "replay")
    assert (response.status, await response.json()) == (200, {"id": "order/1"})
    assert (await client.receive(topology.requests))[0].message_id == "order/1"
    assert (await api.post("order%202", "drop")).status == 200
    await client.until_count(topology.dead, 1)
    for action in ("replay", "drop"):
        await problem(await api.post("order%202", action), 404, "unknown_dead_letter")
    await client.until_count(topology.dead, 1)


async def test_what_cannot_be_sent_back_stays_and_is_explained(api: Api, client: Client, topology: Topology):
    headers: HeadersType = {"x-bridge-original-queue": "removed"}
    await client.channel.default_exchange.publish(Message(b"{}", message_id="stuck", headers=headers), topology.dead)
    refused = await problem(await api.post("stuck", "replay"), 409, "not_replayed")
    assert "no longer configured" in refused["detail"]
    await client.until_count(topology.dead, 4)


async def test_a_client_limited_to_some_crews_may_not_use_them(api: Api):
    for name in ("reader", "narrow"):
        await problem(await api.get(name=name), 403, "forbidden")


async def test_without_rabbitmq_there_are_none_and_an_outage_is_temporary(topology: Topology):
    async for api in serving(None):
        await problem(await api.get(), 404, "not_found")
    async for api in serving(DeadLetterQueue([UNREACHABLE], topology)):
        assert (await problem(await api.get(), 503, "service_unavailable"))["detail"]
