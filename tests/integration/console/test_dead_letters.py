"""Dead letters in a browser, from a real broker: counted, shown as text, sent back, and removed."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import client_of, eventually
from tests.broker import Broker
from tests.integration.console.conftest import browsing, confirm, serving

REQUEST = {"crew": "research", "inputs": {"topic": "peat"}}

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


@pytest.mark.nightly
async def test_dead_letters_are_counted_shown_replayed_and_dropped(
    browser: Browser, shared_broker: Broker, tmp_path: Path
):
    topology = Topology("requests-console", "results-console", "dead-console")
    amqp = {name: getattr(topology, name) for name in ("requests", "results", "dead")}
    async with (
        serving(tmp_path, amqp={"url": shared_broker.url, **amqp}) as url,
        browsing(browser, url, tmp_path, []) as console,
        client_of(shared_broker.url, topology) as client,
    ):
        page = await console.open()
        await expect(page.get_by_role("heading", name="All parts work")).to_be_visible()
        await client.send(b"<img src=x onerror=alert(1)>", message_id="order/1")
        await client.until_count(topology.dead, 1)
        await client.send(REQUEST, topology.dead, message_id="order/2")  # refused by a former configuration
        await client.until_count(topology.dead, 2)
        await page.get_by_role("link", name="Dead letters", exact=True).click()
        await expect(page.get_by_role("main")).to_contain_text("order/1")
        await page.get_by_text("Body", exact=True).first.click()
        await expect(page.get_by_text("<img src=x")).to_be_visible()
        await confirm(page.locator("article").filter(has_text="order/2"), "Replay", Reason="the crew is back")

        async def accepted() -> bool:
            return bool((await console.get("/v1/runs?idempotency_key=order/2"))["runs"])

        await eventually(accepted)
        await expect(page.get_by_text("order/2")).to_have_count(0)
        await confirm(page.get_by_role("main"), "Drop", Reason="a test")
        await expect(page.get_by_text("queue of dead letters is empty")).to_be_visible()
        await client.until_count(topology.dead, 0)
        assert console.complaints == []
