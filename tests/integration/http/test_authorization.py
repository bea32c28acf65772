"""Every route of the bridge, for every kind of caller; the routes are collected from the assembled bridge.

A new route fails here until it has its row, so that its authorization cannot be forgotten.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from bridge.adapters.http.server import HttpServer
from bridge.composition.build import open_bridge
from bridge.config import load
from bridge.sandbox import SandboxSettings, running

TOKENS = {name: f"{name}-token-{'x' * 32}" for name in ("submit", "someone", "both", "read", "operate", "narrow")}
CLIENTS = [
    {"name": "submit", "token": TOKENS["submit"], "roles": ["submit"]},
    {"name": "someone", "token": TOKENS["someone"], "roles": ["submit"]},
    {"name": "both", "token": TOKENS["both"]},
    {"name": "read", "token": TOKENS["read"], "roles": ["read"]},
    {"name": "operate", "token": TOKENS["operate"], "roles": ["operate"]},
    {"name": "narrow", "token": TOKENS["narrow"], "roles": ["submit", "read", "operate"], "crews": ["triage"]},
]
CALLERS = ("nobody", "wrong", "submit", "someone", "both", "read", "operate", "narrow")
"""No token; a wrong one; the submitter of the run; a submitter of another run; a client with the default roles;
a reader; an operator; an operator of another crew only.
"""

OPEN = [200] * 8
MATRIX: dict[tuple[str, str], list[int]] = {
    ("POST", "/v1/runs"): [401, 401, 202, 202, 202, 403, 202, 403],
    ("GET", "/v1/runs"): [401, 401, 200, 200, 200, 200, 200, 200],
    ("GET", "/v1/runs/{run_id}"): [401, 401, 200, 404, 200, 200, 200, 404],
    ("GET", "/v1/runs/{run_id}/result"): [401, 401, 200, 404, 200, 200, 200, 404],
    ("POST", "/v1/runs/release"): [401, 401, 403, 403, 403, 403, 200, 200],
    ("POST", "/v1/runs/{run_id}/cancel"): [401, 401, 200, 404, 403, 403, 200, 404],
    ("POST", "/v1/runs/{run_id}/retry"): [401, 401, 202, 404, 403, 403, 202, 404],
    ("POST", "/v1/runs/cancel"): [401, 401, 200, 200, 200, 403, 200, 200],
    ("POST", "/v1/runs/resolve"): [401, 401, 403, 403, 403, 403, 200, 200],
    ("POST", "/v1/runs/retry"): [401, 401, 200, 200, 200, 403, 200, 200],
    ("POST", "/v1/runs/{run_id}/resume"): [401, 401, 409, 404, 403, 403, 409, 404],
    ("POST", "/v1/runs/{run_id}/resolve"): [401, 401, 403, 403, 403, 403, 409, 404],
    ("GET", "/v1/deliveries"): [401, 401, 403, 403, 403, 403, 200, 200],
    ("GET", "/v1/deliveries/{id}"): [401, 401, 403, 403, 403, 403, 404, 404],
    ("POST", "/v1/deliveries/{id}/redeliver"): [401, 401, 403, 403, 403, 403, 404, 404],
    ("POST", "/v1/deliveries/{id}/discard"): [401, 401, 403, 403, 403, 403, 404, 404],
    ("GET", "/v1/receivers"): [401, 401, 403, 403, 403, 403, 200, 200],
    ("POST", "/v1/receivers/resume"): [401, 401, 403, 403, 403, 403, 200, 200],
    ("POST", "/v1/deliveries/redeliver"): [401, 401, 403, 403, 403, 403, 200, 200],
    ("GET", "/v1/crews"): [401, 401, 200, 200, 200, 200, 200, 200],
    ("GET", "/v1/crews/{crew}"): [401, 401, 200, 200, 200, 200, 200, 404],
    ("GET", "/v1/stats"): [401, 401, 403, 403, 200, 200, 200, 200],
    ("GET", "/v1/crews/{crew}/inputs"): [401, 401, 200, 200, 200, 200, 200, 404],
    ("GET", "/v1/dead-letters"): [401, 401, 403, 403, 403, 403, 404, 403],
    ("POST", "/v1/dead-letters/{id}/replay"): [401, 401, 403, 403, 403, 403, 404, 403],
    ("POST", "/v1/dead-letters/{id}/drop"): [401, 401, 403, 403, 403, 403, 404, 403],
    ("GET", "/v1/events"): [401, 401, 200, 200, 200, 200, 200, 200],
    ("GET", "/v1/client"): [401, 401, 200, 200, 200, 200, 200, 200],
    ("POST", "/amp/{token}/{kind}"): [404] * 8,
    ("POST", "/amp/crews/{crew}/human"): [404] * 8,
    ("POST", "/hooks/{name}"): [401] * 8,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/asyncapi.json"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/"): OPEN,
    ("GET", "/console/{file}"): OPEN,
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/runs": {"crew": "research", "inputs": {"topic": "peat"}},
    "/v1/runs/{run_id}/resolve": {"action": "abandon"},
    "/v1/runs/cancel": {"filter": {"crew": "research"}, "dry_run": True},
    "/v1/runs/resolve": {"filter": {"crew": "research"}, "dry_run": True, "action": "abandon"},
    "/v1/runs/retry": {"filter": {"crew": "research"}, "dry_run": True},
    "/v1/receivers/resume": {"all": True},
    "/v1/deliveries/redeliver": {"filter": {}},
}


@dataclass
class Served:
    """A bridge, its routes, and a run of the client `submit`."""

    url: str
    routes: set[tuple[str, str]]
    http: aiohttp.ClientSession
    run_id: str = ""

    async def request(self, method: str, route: str, caller: str) -> int:
        path = route.format(
            run_id=self.run_id, crew="research", token="forged", kind="crew", name="x", id="x", file="app.js"
        )
        token = TOKENS.get(caller, "wrong" if caller == "wrong" else "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = BODIES.get(route, {}) if method == "POST" else None
        async with self.http.request(method, self.url + path, json=body, headers=headers) as response:
            return response.status


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with running(SandboxSettings(inputs=("topic",))) as crew_url, aiohttp.ClientSession() as http:
        crew = {"url": crew_url, "token": "sandbox-token"}
        document = {
            "http": {"port": 0, "clients": CLIENTS},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "crews": {"research": crew, "triage": crew},
            "hooks": {"x": {"crew": "research", "verify": {"scheme": "github", "secret": "s"}}},
        }
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(document))
        async with open_bridge(load(tmp_path / "bridge.yaml", environ={}), migrate=True) as bridge:
            supervisor = await bridge.start()
            try:
                served = Served(f"http://127.0.0.1:{bridge.servers[0].port}", _routes(bridge.servers), http)
                served.run_id = await _submit(served)
                yield served
            finally:
                await supervisor.stop(asyncio.Event())


def _routes(servers: Sequence[HttpServer]) -> set[tuple[str, str]]:
    return {(route.method, route.path) for route in chain.from_iterable(server.routes for server in servers)}


async def _submit(served: Served) -> str:
    headers = {"Authorization": f"Bearer {TOKENS['submit']}"}
    async with served.http.post(f"{served.url}/v1/runs", json=BODIES["/v1/runs"], headers=headers) as response:
        return str((await response.json())["run_id"])


async def test_every_route_for_every_caller(served: Served) -> None:
    assert served.routes == set(MATRIX), "a route without a row, or a row without a route"
    for (method, route), expected in MATRIX.items():
        found = [await served.request(method, route, caller) for caller in CALLERS]
        assert (method, route, found) == (method, route, expected)
