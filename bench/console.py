"""The console beside 100,000 runs and 200 events per second: how soon it shows something, and what memory it needs.

`python -m bench.console --minutes 10` prints the figures. It needs Chromium (Debian: `apt-get install chromium`).
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, Page, async_playwright

from bench import daemon, reads
from tests.broker import free_ports

RUNS = 100_000
RUNS_PER_SECOND = 100  # with two events each
LOADS = 5  # of each view
LONG_TASKS = """() => {
    window.tasks = [];
    new PerformanceObserver((list) => list.getEntries().forEach((each) => window.tasks.push(each.duration)))
        .observe({entryTypes: ['longtask']});
}"""


async def submit_forever(http: aiohttp.ClientSession, url: str, submitted: list[str]) -> None:
    began = time.monotonic()
    while True:
        due = int((time.monotonic() - began) * RUNS_PER_SECOND) - len(submitted)
        submitted += await asyncio.gather(*(daemon.submit(http, url, "research", "peat") for _ in range(due)))
        await asyncio.sleep(0.05)


async def first_rows(browser: Browser, url: str, view: str, selector: str) -> tuple[float, float]:
    """The milliseconds until a new tab paints something, and until it shows what it was opened for."""
    page = await browser.new_page()
    began = time.monotonic()
    await page.goto(f"{url}/#/{view}")
    await page.locator(selector).first.wait_for()
    shown = (time.monotonic() - began) * 1000
    painted = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    await page.close()
    return painted, shown


async def measure_views(browser: Browser, url: str) -> None:
    for view, selector in (("overview", ".plot rect"), ("runs", "tbody tr:nth-child(50)")):
        found = [await first_rows(browser, url, view, selector) for _ in range(LOADS)]
        painted, shown = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"    {view}: first paint {painted:.0f} ms, content {shown:.0f} ms")


async def heap(page: Page) -> float:
    """The MiB that the page's objects need after garbage collection."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    used: dict[str, Any] = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return float(used["usedSize"]) / 2**20


async def watch(page: Page, minutes: float, submitted: list[str]) -> None:
    await page.evaluate(LONG_TASKS)
    before, sent = await heap(page), len(submitted)
    await asyncio.sleep(minutes * 60)
    tasks = await page.evaluate("window.tasks")
    rate = (len(submitted) - sent) / (minutes * 60)
    print(f"    after {minutes:g} minutes at {rate:.0f} runs/s: heap {before:.1f} -> {await heap(page):.1f} MiB")
    print(f"    tasks over 50 ms: {len(tasks)}, longest {max(tasks, default=0):.0f} ms")


@asynccontextmanager
async def bridge(folder: Path) -> AsyncIterator[str]:
    """A bridge whose store contains many ended runs, with a crew that costs next to nothing."""
    port, crew = free_ports(2)
    url = f"http://127.0.0.1:{port}"
    crews = {"research": {"url": f"http://127.0.0.1:{crew}", "events": ["started"]}}
    settings = daemon.write_settings(folder, port, crews)
    async with aiohttp.ClientSession() as http:
        async with daemon.bridge_process(settings):
            await daemon.responses(http, f"{url}/healthz")
        reads.fill(folder / "bench.db", RUNS)
        async with (
            daemon.process("-m", "bench.crew", "--port", str(crew), "--run-time", "0.3"),
            daemon.bridge_process(settings),
        ):
            await daemon.responses(http, f"{url}/healthz")
            yield url


async def main(minutes: float) -> None:
    submitted: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        async with bridge(Path(folder)) as url, aiohttp.ClientSession() as http, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            await daemon.submit(http, url, "research", "peat")  # for the chart
            await asyncio.sleep(2)
            print(f"{RUNS} runs, no events:")
            await measure_views(browser, url)
            load = asyncio.create_task(submit_forever(http, url, submitted))
            await asyncio.sleep(5)
            print(f"the same, with about {2 * RUNS_PER_SECOND} events per second:")
            await measure_views(browser, url)
            page = await browser.new_page()
            await page.goto(f"{url}/#/runs")
            await page.locator("tbody tr:nth-child(50)").wait_for()
            await watch(page, minutes, submitted)
            load.cancel()
            await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    asyncio.run(main(parser.parse_args().minutes))
