"""Every view, checked by axe, and in Chinese: no serious violation, nothing wider than a phone, no missing text."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import client_of
from tests.broker import Broker
from tests.integration.console.conftest import UNFOLD, Console, browsing, serving
from tests.system.interop.javascript import FOLDER, why_not

AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
GO = "(hash) => { location.hash = hash; }"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
SIZES = [
    pytest.param(size, scheme, id=f"{name}-{scheme}")
    for name, size in (("wide", WIDE), ("narrow", NARROW))
    for scheme in ("light", "dark")
]
TEXTS = resources.files("bridge").joinpath("console", "en.js").read_text()
NAMES = set(re.findall(r'^  "([^"]+\.[^"]+)": ', TEXTS, re.MULTILINE))
pytestmark = [pytest.mark.nightly, pytest.mark.asyncio(loop_scope="session")]  # that of the browser


async def filled(console: Console) -> dict[str, str]:
    """Submit runs of each kind; return the views that show them, each with a text from outside in it."""
    succeeded = await console.submit("research", {"order": 42})
    failed = await console.submit("research", callback_url="http://127.0.0.1:9/closed", sandbox_outcome="failure")
    doubtful, asked = await console.submit("doubtful"), await console.submit("proposed")
    for run_id, state in (
        (succeeded, "succeeded"), (failed, "failed"), (doubtful, "in_doubt"), (asked, "waiting_for_human"),
    ):  # fmt: skip
        await console.reached(run_id, state)
    [delivery] = [each for each in (await console.run(failed))["deliveries"] if ":9/" in each["destination"]]
    return {
        "overview": "doubtful",
        "runs": succeeded[:18],
        f"runs/{succeeded}": succeeded[:18],
        f"runs/{failed}": "execution_failed",
        f"runs/{asked}": "Please review.",
        f"runs/{doubtful}": doubtful[:18],
        "questions": asked[:18],
        "in-doubt": doubtful[:18],
        "deliveries?state=pending": "127.0.0.1:9/closed",
        f"deliveries/{delivery['id']}": "127.0.0.1:9/closed",
        "crews": "reviewed",
        "crews/research": "requests_per_second",
    }


async def serious(page: Page) -> list[tuple[str, list[str]]]:
    """The violations on the page that axe calls serious or critical, with the elements."""
    violations: list[dict[str, Any]] = await page.evaluate(RUN)
    return [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]


async def with_axe(console: Console, viewport: dict[str, int], scheme: str, role: str | None = "operate") -> Page:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    page = await console.open(role=role, viewport=viewport, color_scheme=scheme)
    await page.evaluate(AXE.read_text())
    return page


@pytest.mark.parametrize(("viewport", "scheme"), SIZES)
async def test_no_view_has_a_serious_finding(console: Console, viewport: dict[str, int], scheme: str):
    page, found = await with_axe(console, viewport, scheme), {}
    for view, text in (await filled(console)).items():
        await page.evaluate(GO, f"#/{view}")
        await page.get_by_role("main").get_by_text(text).first.wait_for()
        await page.evaluate(UNFOLD)
        found[view] = await serious(page)
    await page.evaluate(GO, "#/in-doubt")
    await page.get_by_role("button", name="Abandon").click()
    found["dialog"] = await serious(page)
    assert {view: findings for view, findings in found.items() if findings} == {}


@pytest.mark.parametrize(("viewport", "scheme"), SIZES)
async def test_no_empty_view_has_a_serious_finding(console: Console, viewport: dict[str, int], scheme: str):
    page, found = await with_axe(console, viewport, scheme), {}
    for view, text in (
        ("runs", "No runs yet"),
        ("runs?meta.order=1", "No run matches"),
        ("questions", "No run waits"),
        ("in-doubt", "No run is in doubt"),
        ("deliveries", "No delivery is dead"),
        ("dead-letters", "no RabbitMQ"),
        ("nowhere", "no such page"),
    ):
        await page.evaluate(GO, f"#/{view}")
        await page.get_by_role("main").get_by_text(text).first.wait_for()
        found[view] = await serious(page)
    page = await with_axe(console, viewport, scheme, role=None)
    found["sign in"] = await serious(page)
    assert {view: findings for view, findings in found.items() if findings} == {}


@pytest.mark.parametrize(("viewport", "scheme"), SIZES)
async def test_dead_letters_have_no_serious_finding(
    browser: Browser, shared_broker: Broker, tmp_path: Path, viewport: dict[str, int], scheme: str
):
    topology = Topology("requests-axe", "results-axe", "dead-axe")
    amqp = {name: getattr(topology, name) for name in ("requests", "results", "dead")}
    async with (
        serving(tmp_path, amqp={"url": shared_broker.url, **amqp}) as url,
        browsing(browser, url, tmp_path, []) as console,
        client_of(shared_broker.url, topology) as client,
    ):
        page = await with_axe(console, viewport, scheme)
        await expect(page.get_by_role("heading", name="All parts work")).to_be_visible()  # connected to the broker
        await client.send(b"no JSON", message_id="order/1")
        await client.until_count(topology.dead, 1)
        await page.evaluate(GO, "#/dead-letters")
        await page.get_by_text("Body", exact=True).click()
        assert await serious(page) == []
        await client.channel.queue_delete(topology.dead)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_every_view_is_complete_and_fits_in_chinese(console: Console, viewport: dict[str, int]):
    views = await filled(console)
    page = await console.open(viewport=viewport, locale="zh-CN")
    for view, text in views.items():
        await page.evaluate(GO, f"#/{view}")
        await page.get_by_role("main").get_by_text(text).first.wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], view
        shown = set(re.findall(r"[\w.-]+", await page.locator("body").inner_text()))
        assert shown & NAMES == set(), view
    await page.evaluate(GO, "#/in-doubt")
    await page.get_by_role("button", name="接管").click()
    await expect(page.get_by_role("dialog").get_by_role("button", name="返回")).to_be_visible()
