"""The files of the console over HTTP: headers, revalidation, ports, and the setting that disables them."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.console.conftest import TOKENS, serving

POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}  # fmt: skip
OPERATOR = {"Authorization": f"Bearer {TOKENS['operate']}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """One bridge for the tests that change nothing."""
    async with serving(tmp_path_factory.mktemp("bridge")) as url, aiohttp.ClientSession(url) as http:
        yield http


@pytest.mark.asyncio(loop_scope="module")
async def test_strict_headers_and_no_cookie(http: aiohttp.ClientSession):
    for path, kind in (
        ("/", "text/html"),
        ("/console/app.js", "text/javascript"),
        ("/console/style.css", "text/css"),
    ):
        async with http.get(path) as response:
            assert (response.status, response.content_type) == (200, kind)
            assert set(response.headers["Content-Security-Policy"].split("; ")) == POLICY
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Set-Cookie" not in response.headers


@pytest.mark.asyncio(loop_scope="module")
async def test_an_unchanged_file_is_not_sent_again(http: aiohttp.ClientSession):
    async with http.get("/") as response:
        tag = response.headers["ETag"]
    async with http.get("/", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == tag


@pytest.mark.asyncio(loop_scope="module")
async def test_only_the_files_of_the_console_are_served(http: aiohttp.ClientSession):
    for name in ("none.js", "..%2Fdaemon.py", "%2e%2e%2fdaemon.py"):
        async with http.get(f"/console/{name}") as response:
            assert response.status == 404


@pytest.mark.asyncio(loop_scope="module")
async def test_the_client_learns_its_roles(http: aiohttp.ClientSession):
    async with http.get("/v1/client", headers={"Authorization": f"Bearer {TOKENS['read']}"}) as response:
        assert await response.json() == {"name": "read", "roles": ["read"], "crews": None}
    async with http.get("/v1/client", headers=OPERATOR) as response:
        assert (await response.json())["roles"] == ["submit", "read", "operate"]


async def test_the_ops_port_serves_the_page_with_its_api_but_no_webhooks(tmp_path: Path):
    async with serving(tmp_path, ops_port=0) as ops, aiohttp.ClientSession(ops) as http:
        for path, headers, status in (
            ("/", {}, 200),
            ("/readyz", {}, 200),
            ("/v1/runs", OPERATOR, 200),
            ("/v1/runs", {}, 401),
        ):
            async with http.get(path, headers=headers) as response:
                assert response.status == status
        async with http.post("/amp/token/crew", json={}) as response:
            assert response.status == 404


async def test_without_the_console_the_ops_port_has_no_api(tmp_path: Path):
    async with serving(tmp_path, ops_port=0, console=False) as ops, aiohttp.ClientSession(ops) as http:
        for path, status in (("/", 404), ("/console/app.js", 404), ("/v1/runs", 404), ("/readyz", 200)):
            async with http.get(path, headers=OPERATOR) as response:
                assert response.status == status
