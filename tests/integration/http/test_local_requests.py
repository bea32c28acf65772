"""A bridge without clients on a developer's machine, and the websites open in its browser."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bridge.adapters.http.auth import Clients
from tests.http_client import BODY, LISTEN, Bridge, bearer, problem, run_id, serving
from tests.integration.http.test_hooks import HOOKS

EVIL = {"Origin": "https://evil.example"}
REQUESTS: list[tuple[str, str, object]] = [
    ("POST", "/v1/runs", BODY),
    ("GET", "/v1/runs", None),
    ("GET", f"/v1/runs/{run_id(1)}", None),
    ("POST", f"/v1/runs/{run_id(1)}/cancel", None),
    ("GET", "/v1/deliveries", None),
    ("POST", f"/v1/deliveries/{run_id(1)}/redeliver", None),
    ("POST", "/v1/deliveries/redeliver", {"filter": {}}),
    ("GET", "/v1/crews", None),
    ("OPTIONS", "/v1/runs", None),
    ("GET", "/metrics", None),
    ("GET", "/readyz", None),
    ("GET", "/nowhere", None),
]
OTHER_SITES = [
    {"Host": "evil.example"},
    {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"},
    EVIL,
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
]


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving(clients=Clients(), hooks=HOOKS) as served:
        served.store.add()
        yield served


async def request(
    bridge: Bridge, method: str, path: str, body: object, headers: dict[str, str], server: int = 0
) -> int:
    async with bridge.http.request(method, bridge.url(path, server), json=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=lambda value: str(value)[:40])
async def test_no_website_can_use_a_bridge_without_clients(
    bridge: Bridge, method: str, path: str, body: object, headers: dict[str, str]
) -> None:
    """A foreign `Host` (DNS rebinding) was answered with 202, and a website could redeliver with an empty body."""
    async with bridge.http.request(method, bridge.url(path), json=body, headers=headers) as response:
        document = await problem(response, 403, "forbidden")
    assert "http.clients" in document["detail"]
    assert not bridge.accept.seen
    assert not bridge.store.redelivered
    assert not bridge.others.commands


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost"},
        {"Host": "LOCALHOST.:8080"},
        {"Host": "[::1]:8080"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
async def test_local_programs_and_pages_can(bridge: Bridge, headers: dict[str, str]) -> None:
    assert await request(bridge, "POST", "/v1/runs", BODY, headers) == 202
    assert await request(bridge, "GET", "/healthz", None, headers) == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://evil.example/v1/runs HTTP/1.1\r\nHost: localhost\r\n",
        b"GET http://localhost/v1/runs HTTP/1.1\r\nHost: evil.example\r\n",
        b"GET /v1/runs HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n",
        b"GET /v1/runs HTTP/1.0\r\n",
        b"GET //localhost/v1/runs HTTP/1.1\r\nHost: evil.example\r\n",
        b"GET /v1/runs HTTP/1.1\r\nHost: \r\n",
    ],
)
async def test_every_name_in_a_request_is_checked(bridge: Bridge, head: bytes) -> None:
    response = await bridge.raw(head + b"Connection: close\r\n\r\n")
    assert response.split(b" ")[1] == b"403"


async def test_two_hosts_are_refused(bridge: Bridge) -> None:
    response = await bridge.raw(b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert response.split(b" ")[1] in (b"400", b"403")


async def test_an_absolute_target_on_this_machine_is_accepted(bridge: Bridge) -> None:
    for name in (b"localhost", b"[::1]:8080"):
        head = b"GET http://%s/v1/runs HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (name, name)
        assert (await bridge.raw(head)).split(b" ")[1] == b"200"


async def test_webhooks_are_accepted_under_the_public_name_and_from_no_website(bridge: Bridge) -> None:
    """A tunnel to a developer's machine keeps the public name in `Host`; a browser always adds `Origin` to a POST."""
    public = {"Host": "bridge.example.com"}
    assert await request(bridge, "POST", "/hooks/open", {"text": "otters"}, public) == 202
    assert await request(bridge, "POST", "/amp/known/crew", {}, public) == 204
    for headers in ({**public, "Origin": "http://bridge.example.com"}, EVIL, {"Sec-Fetch-Site": "cross-site"}):
        assert await request(bridge, "POST", "/hooks/open", {"text": "otters"}, headers) == 403
        assert await request(bridge, "POST", "/amp/known/crew", {}, headers) == 403
    assert (len(bridge.accept.seen), len(bridge.others.crew_webhooks)) == (1, 1)


async def test_the_operations_port_serves_only_this_machine() -> None:
    async with serving(replace(LISTEN, ops_port=0), Clients()) as bridge:
        assert await request(bridge, "GET", "/metrics", None, {}, server=1) == 200
        assert await request(bridge, "GET", "/metrics", None, {"Host": "evil.example"}, server=1) == 403


@pytest.mark.parametrize("headers", OTHER_SITES, ids=str)
async def test_with_clients_the_token_is_the_proof(headers: dict[str, str]) -> None:
    """No browser adds it by itself, so the request of a website has no token."""
    async with serving() as bridge:
        bridge.store.add()
        assert await request(bridge, "POST", "/v1/runs", BODY, {**headers, **bearer("submitter")}) == 202
        assert await request(bridge, "POST", f"/v1/deliveries/{run_id(1)}/redeliver", None, headers) == 401
