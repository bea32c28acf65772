"""A bridge, its sandbox crews, and a page in Chromium; each page must end without a console error or CSP report."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Locator, Page, Response, async_playwright, expect

from bridge.composition.build import open_bridge
from bridge.config import load
from bridge.sandbox import SandboxSettings, running
from bridge.sandbox.times import Fixed
from tests.amqp_client import eventually
from tests.patience import PATIENCE
from tests.system.acceptance.harness import free_port

CHROMIUM = shutil.which("chromium")
# The tests may run as root, and open only their own pages. A bridge may get the one free port that browsers refuse.
OPTIONS = ("--no-sandbox", "--disable-gpu", "--explicitly-allowed-ports=10080")
TOKENS = {name: f"{name}-token-{'x' * 24}" for name in ("submit", "read", "operate")}
SECRET = "whsec_" + "a1b2c3d4" * 5 + "a1b2"
UNFOLD = "() => document.querySelectorAll('main details').forEach((each) => { each.open = true; })"
HANG_UP = {"on": "kickoff", "do": "hang_up_before", "times": None}


@dataclass
class Console:
    """The URL of the page, calls to the API as an operator, and what the browser complained about."""

    url: str
    http: aiohttp.ClientSession
    browser: Browser
    received: list[str]
    """The ids of the events that the receiver got."""
    database: Path
    """The store of the bridge."""
    complaints: list[str] = field(default_factory=list)
    refusals: set[int] = field(default_factory=lambda: {401})
    """The statuses of expected refusals, which the browser logs; by one, the page learns that it needs a token."""

    async def submit(
        self, crew: str, meta: Any = None, callback_url: str | None = None, trace: str | None = None, **inputs: Any
    ) -> str:
        """Submit a run and return its id; `trace`: the trace id of the request."""
        body = {"crew": crew, "inputs": {"topic": "peat", **inputs}, "meta": meta, "callback_url": callback_url}
        headers = {} if trace is None else {"traceparent": f"00-{trace}-{'1' * 16}-01"}
        async with self.http.post("/v1/runs", json=body, headers=headers) as response:
            assert response.status == 202, await response.text()
            run_id: str = (await response.json())["run_id"]
            return run_id

    async def run(self, run_id: str) -> dict[str, Any]:
        async with self.http.get(f"/v1/runs/{run_id}") as response:
            run: dict[str, Any] = await response.json()
            return run

    async def get(self, path: str) -> dict[str, Any]:
        async with self.http.get(path) as response:
            body: dict[str, Any] = await response.json()
            return body

    async def reached(self, run_id: str, state: str) -> dict[str, Any]:
        """The run, once it is in this state."""

        async def is_reached() -> bool:
            return bool((await self.run(run_id))["state"] == state)

        await eventually(is_reached)
        return await self.run(run_id)

    async def open(self, path: str = "", role: str | None = "operate", **options: Any) -> Page:
        """A new page, signed in with the token of this role; None: not signed in."""
        context = await self.browser.new_context(**{"locale": "en-US", **options})
        context.set_default_timeout(PATIENCE * 1000)
        if role is not None:
            await context.add_init_script(f"sessionStorage.setItem('kickoff-bridge-token', '{TOKENS[role]}')")
        page = await context.new_page()
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("response", self._check_origin)
        await page.goto(f"{self.url}/#/{path}")
        await page.locator("nav a" if role is not None else "form.login").first.wait_for()
        return page

    def _complain(self, kind: str, text: str) -> None:
        refused = any(f"status of {status}" in text for status in self.refusals)
        if kind == "error" and not refused:
            self.complaints.append(text)

    def _check_origin(self, response: Response) -> None:
        if not response.url.startswith((self.url, "data:")):
            self.complaints.append(f"another origin: {response.url}")


async def confirm(where: Page | Locator, action: str, **fields: str) -> None:
    """Use the button of an action, fill in its dialog, and confirm."""
    await where.get_by_role("button", name=action).first.click()
    dialog = (where if isinstance(where, Page) else where.page).get_by_role("dialog")
    for label, text in fields.items():
        await dialog.get_by_label(label).fill(text)
    await dialog.get_by_role("button", name=action).click()
    await expect(dialog).to_have_count(0)


@asynccontextmanager
async def serving(
    folder: Path, receiver: str | None = None, amqp: dict[str, str] | None = None, **http: Any
) -> AsyncIterator[str]:
    """A bridge with four crews; its store is `bridge.db` in the folder.

    `research` works, `reviewed` asks a human, `proposed` is a flow that asks with options, and `doubtful` never
    confirms a kickoff. `receiver`: the URL to which the events of successful runs are sent. `amqp`: its settings.
    """
    quick, port = Fixed(0.1), free_port()
    public_url = f"http://127.0.0.1:{port}"  # for the questions
    asking = SandboxSettings(run_time=quick, human_questions=1, human_status="paused")
    flow = replace(asking, kind="flow", flow_hitl_url=f"{public_url}/amp/crews/proposed/human", flow_hitl_secret=SECRET)
    async with (
        running(SandboxSettings(run_time=quick, inputs=("topic",))) as research,
        running(asking) as reviewed,
        running(flow) as proposed,
        running(SandboxSettings(run_time=quick, faults=(HANG_UP,))) as doubtful,
    ):
        urls = {"research": research, "reviewed": reviewed, "proposed": proposed, "doubtful": doubtful}
        poll = {"min_interval": "100ms", "max_interval": "200ms"}
        crews: dict[str, dict[str, Any]] = {
            name: {"url": url, "token": "sandbox-token", "poll": poll} for name, url in urls.items()
        }
        crews["reviewed"]["human_input"] = True
        crews["proposed"] |= {"kind": "flow", "human": {"secret": SECRET}}
        clients = [{"name": name, "token": token, "roles": [name]} for name, token in TOKENS.items()]
        settings = {
            "public_url": public_url,
            "http": {"port": port, "clients": clients, **http},
            "store": {"url": f"sqlite:///{folder}/bridge.db"},
            "amqp": amqp,
            "crews": crews,
            "callbacks": {"secret": SECRET, "allow_private": True},
            "destinations": {} if receiver is None else {"crm": {"url": receiver, "events": ["succeeded"]}},
        }
        (folder / "bridge.yaml").write_text(yaml.safe_dump(settings))
        async with open_bridge(load(folder / "bridge.yaml", environ={}), migrate=True) as bridge:
            supervisor = await bridge.start()
            try:
                yield f"http://127.0.0.1:{bridge.servers[-1].port}"
            finally:
                await supervisor.stop(asyncio.Event())


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Chromium from the system, which receives security updates, instead of one that the library downloads."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def browsing(browser: Browser, url: str, folder: Path, received: list[str]) -> AsyncIterator[Console]:
    """The page of the bridge that has its store in this folder in a browser, and its API as an operator."""
    operator = {"Authorization": f"Bearer {TOKENS['operate']}"}
    async with aiohttp.ClientSession(url, headers=operator) as http:
        console = Console(url, http, browser, received, folder / "bridge.db")
        try:
            yield console
        finally:
            for context in browser.contexts:
                await context.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[str, list[str]]]:
    """A receiver of events: its URL, and the ids of the events that it gets."""
    received: list[str] = []

    async def take(request: web.Request) -> web.Response:
        received.append(request.headers["webhook-id"])
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.post("/events", take)])
    async with TestServer(app) as server:
        yield str(server.make_url("/events")), received


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def console(browser: Browser, tmp_path: Path) -> AsyncIterator[Console]:
    async with (
        receiving() as (receiver, ids),
        serving(tmp_path, receiver) as url,
        browsing(browser, url, tmp_path, ids) as console,
    ):
        yield console
        assert console.complaints == []
