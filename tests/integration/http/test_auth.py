"""Authentication and authorization: every route for every kind of client, and the visibility of runs."""

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from bridge.adapters.http import auth
from bridge.adapters.http.auth import Clients
from bridge.adapters.http.server import Listen
from bridge.core.http.limits import Rate
from tests.http_client import BODY, CLIENTS, LISTEN, TOKENS, Bridge, bearer, problem, run_id, serving

REFILL = 3600  # seconds until another request, longer than any machine takes for a test
SLOW = Rate(per_second=1 / REFILL, burst=3.0)
ROUTES = [("POST", "/v1/runs"), ("GET", "/v1/runs"), ("GET", f"/v1/runs/{run_id(1)}")]
OPEN = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json"]
ALLOWED = {
    "submitter": [202, 200, 200],
    "reader": [403, 200, 200],
    "operator": [202, 200, 200],
    "narrow": [202, 200, 200],
}
BAD_CREDENTIALS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    "Bearer submitter",
    f"Basic {'x' * 32}",
    f"submitter-token-{'x' * 32}",
    "Bearer tök€n",
]


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving() as served:
        served.store.add()
        yield served


async def request(bridge: Bridge, method: str, path: str, headers: dict[str, str]) -> int:
    response = await bridge.http.request(
        method, bridge.url(path), json=BODY if method == "POST" else None, headers=headers
    )
    if response.status == 401:
        document = await problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "detail" not in document, "no response says which part was wrong"
    if response.status == 403:
        await problem(response, 403, "forbidden")
    return response.status


@pytest.mark.parametrize("name", ALLOWED)
async def test_each_role_permits_its_routes(bridge: Bridge, name: str) -> None:
    assert [await request(bridge, *route, bearer(name)) for route in ROUTES] == ALLOWED[name]


@pytest.mark.parametrize("credentials", BAD_CREDENTIALS)
async def test_unauthenticated_callers_are_refused_everywhere(bridge: Bridge, credentials: str | None) -> None:
    """No token, a wrong one, or a right one in the wrong form: the same response."""
    headers = {} if credentials is None else {"Authorization": credentials}
    assert [await request(bridge, *route, headers) for route in ROUTES] == [401] * len(ROUTES)


async def test_two_tokens_are_refused(bridge: Bridge) -> None:
    """A proxy and the server behind it must not differ about which one counts."""
    head = "GET /v1/runs HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
    both = "".join(f"Authorization: {bearer(name)['Authorization']}\r\n" for name in ("reader", "operator"))
    status = (await bridge.raw(f"{head}{both}\r\n".encode())).split(b" ")[1]
    assert status in {b"400", b"401"}


async def test_the_scheme_is_case_insensitive(bridge: Bridge) -> None:
    token = bearer("reader")["Authorization"].removeprefix("Bearer ")
    assert await request(bridge, "GET", "/v1/runs", {"Authorization": f"bearer  {token}"}) == 200


@pytest.mark.parametrize("path", OPEN)
async def test_health_and_metrics_need_no_token(bridge: Bridge, path: str) -> None:
    assert (await bridge.get(path, None)).status == 200


async def test_an_unauthenticated_caller_is_refused_before_the_body_is_read(bridge: Bridge) -> None:
    """No upload is accepted without a token."""
    await problem(await bridge.http.post(bridge.url("/v1/runs"), data=b"not json"), 401, "unauthorized")


async def test_a_submitter_sees_only_its_own_runs(bridge: Bridge) -> None:
    """Runs of others are unknown to it rather than forbidden, so that it cannot tell which exist."""
    other = bridge.store.add(source="client/orders")
    missing = await problem(await bridge.get(f"/v1/runs/{run_id(99)}", "submitter"), 404, "unknown_run")
    hidden = await problem(await bridge.get(f"/v1/runs/{other.run_id}", "submitter"), 404, "unknown_run")
    assert missing == hidden
    assert (await bridge.get(f"/v1/runs/{other.run_id}", "reader")).status == 200
    listed = await (await bridge.get("/v1/runs", "submitter")).json()
    assert [run["run_id"] for run in listed["runs"]] == [run_id(1)]


async def test_a_client_of_one_crew_neither_uses_nor_sees_another(bridge: Bridge) -> None:
    await problem(await bridge.submit({**BODY, "crew": "triage"}, "narrow"), 403, "forbidden")
    assert not bridge.accept.seen
    other = bridge.store.add("triage")
    await problem(await bridge.get(f"/v1/runs/{other.run_id}", "narrow"), 404, "unknown_run")
    listed = await (await bridge.get("/v1/runs", "narrow")).json()
    assert [run["crew"] for run in listed["runs"]] == ["research"]


async def test_without_clients_every_local_caller_has_every_role() -> None:
    async with serving(clients=Clients()) as bridge:
        assert [await request(bridge, *route, {}) for route in ROUTES] == [202, 200, 200]
        assert bridge.accept.seen[0][1].source == "client/anonymous"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "bridge.example.com"])
async def test_an_open_api_serves_only_this_machine(host: str) -> None:
    """The settings refuse other hosts too; a second check costs nothing, and an open API would cost money."""
    with pytest.raises(ValueError, match="loopback"):
        async with serving(Listen(host=host, port=0), Clients()):
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_has_many_names(host: str) -> None:
    Clients().check_host(host)


def test_the_repr_of_a_client_contains_no_token() -> None:
    """A client may be logged; no part of its token may."""
    assert "token" not in repr(Clients(CLIENTS).identify(TOKENS["reader"]))


async def test_unauthenticated_callers_are_rate_limited_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    """After too many failures an address receives 429 and is no longer logged; its valid tokens still work."""
    monkeypatch.setattr(auth, "FAILED_LOGIN_RATE", replace(SLOW, burst=20.0))
    async with serving() as bridge:
        with capture_logs() as logs:
            found = [await request(bridge, "GET", "/v1/runs", {"Authorization": f"Bearer no-{n}"}) for n in range(25)]
        assert found == [401] * 20 + [429] * 5
        failed = [line for line in logs if line["event"] == "authentication_failed"]
        assert [(line["address"], line["route"]) for line in failed] == [("127.0.0.1", "/v1/runs")] * 20
        assert "no-1" not in str(logs)
        refused = await bridge.get("/v1/runs", None)
        assert (refused.status, 0 < int(refused.headers["Retry-After"]) <= REFILL) == (429, True)
        assert await request(bridge, "GET", "/v1/runs", bearer("reader")) == 200


async def test_callers_behind_a_trusted_proxy_are_limited_separately() -> None:
    listen = replace(LISTEN, trusted_proxies=(ipaddress.ip_network("127.0.0.1/32"),))
    async with serving(listen) as bridge:
        attacker = {"Authorization": "Bearer no", "X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
        found = {await request(bridge, "GET", "/v1/runs", attacker) for _ in range(250)}
        assert found == {401, 429}
        assert await request(bridge, "GET", "/v1/runs", {**attacker, "X-Forwarded-For": "203.0.113.8"}) == 401


async def test_clients_have_separate_rate_limits() -> None:
    """A client above its rate receives Retry-After."""
    async with serving(clients=Clients(CLIENTS, SLOW)) as bridge:
        assert [await request(bridge, "GET", "/v1/runs", bearer("reader")) for _ in range(4)] == [200, 200, 200, 429]
        refused = await bridge.get("/v1/runs", "reader")
        assert (await problem(refused, 429, "too_many_requests"))["detail"]
        assert 0 < int(refused.headers["Retry-After"]) <= REFILL
        assert await request(bridge, "GET", "/v1/runs", bearer("operator")) == 200
