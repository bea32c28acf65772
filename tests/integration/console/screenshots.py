"""Draws the pictures of docs/console.md: `python -m tests.integration.console.screenshots`, with pngquant."""

import asyncio
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import client_of
from tests.broker import running_broker
from tests.integration.console.conftest import Console, browsing, launched, receiving, serving

FOLDER = Path(__file__).parents[3] / "docs" / "console"
REPORT = '{"title": "Peat", "score": 0.92, "sources": [{"name": "IUCN", "year": 2021}, {"name": "UNEP", "year": 2022}]}'
SPREAD = """
    UPDATE runs SET
        finished_at = finished_at - age, accepted_at = accepted_at - age - 25, started_at = started_at - age - 20
    FROM (
        SELECT run_id AS old, 30 + 19 * (SELECT count(*) FROM runs AS newer WHERE newer.run_id > runs.run_id) AS age
        FROM runs
    )
    WHERE old = run_id AND finished_at IS NOT NULL
"""
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
UNFOLD = "() => document.querySelectorAll('main details').forEach((each) => { each.open = true; })"


async def fill(console: Console, database: Path) -> dict[str, str]:
    """Submit runs of every kind, with ends over the last hour; return the ids of those to show."""
    for number in range(185):
        failure = {"sandbox_outcome": "failure", "sandbox_error": "the model did not respond"}
        outcome = failure if number % 17 == 5 or 60 < number < 68 else {}
        last = await console.submit("research", {"order": 4200 + number}, **outcome)
    await console.reached(last, "succeeded")
    with sqlite3.connect(database) as connection:
        connection.execute(SPREAD)
    report = await console.submit("research", {"order": 4381}, sandbox_result=REPORT)
    failing = await console.submit("research", {"order": 4382}, callback_url="http://127.0.0.1:9/orders")
    doubtful = [await console.submit("doubtful", {"order": 4383 + number}) for number in range(2)]
    asked = await console.submit("reviewed", {"order": 4390})
    await console.reached(doubtful[1], "in_doubt")
    await console.reached(asked, "waiting_for_human")
    await console.reached(failing, "succeeded")
    return {"report": report, "failing": failing, "doubtful": doubtful[0], "asked": asked}


async def refuse(url: str) -> None:
    """Publish messages that cannot be accepted."""
    async with client_of(url, Topology()) as client:
        await client.send({"crew": "reserch", "inputs": {"topic": "peat"}}, message_id="order-4391")
        await client.send(b"<order id='4392'/>", message_id="order-4392")
        await client.until_count(Topology().dead, 2)


async def draw(console: Console, ids: dict[str, str]) -> None:
    for name, view, size, scheme in (
        ("overview", "overview", WIDE, "light"),
        ("overview-dark", "overview", WIDE, "dark"),
        ("overview-phone", "overview", PHONE, "light"),
        ("runs", "runs", WIDE, "light"),
        ("runs-phone", "runs", PHONE, "dark"),
        ("run", f"runs/{ids['report']}", WIDE, "light"),
        ("run-dark", f"runs/{ids['report']}", WIDE, "dark"),
        ("questions", "questions", WIDE, "light"),
        ("in-doubt", "in-doubt", WIDE, "light"),
        ("in-doubt-phone", "in-doubt", PHONE, "dark"),
        ("deliveries", "deliveries?state=pending", WIDE, "light"),
        ("dead-letters", "dead-letters", WIDE, "light"),
        ("dead-letters-phone", "dead-letters", PHONE, "dark"),
        ("crew", "crews/research", WIDE, "light"),
        ("crew-dark", "crews/research", WIDE, "dark"),
    ):
        page = await console.open(view, viewport=size, color_scheme=scheme)
        await page.wait_for_timeout(1500)  # for the second update, after which nothing moves
        await page.evaluate(UNFOLD if "dead" in view else "document.activeElement.blur()")
        await save(await page.screenshot(full_page=size is WIDE and view != "runs"), name)
        await page.context.close()
    page = await console.open(f"runs/{ids['doubtful']}", viewport=WIDE)
    await page.get_by_role("button", name="Adopt").click()
    await save(await page.screenshot(), "dialog")


async def save(picture: bytes, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    command = ("pngquant", "--nofs", "--speed", "1", "--strip", "128", "-")
    done = await asyncio.to_thread(subprocess.run, command, input=picture, check=True, capture_output=True)
    (FOLDER / f"{name}.png").write_bytes(done.stdout)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        async with (
            receiving() as (receiver, ids),
            serving(Path(folder), receiver, {"url": broker.url, "results": "none"}) as url,
            launched() as browser,
            browsing(browser, url, ids) as console,
        ):
            await refuse(broker.url)
            await draw(console, await fill(console, Path(folder) / "bridge.db"))
            print(console.complaints or "no complaints")


if __name__ == "__main__":
    asyncio.run(main())
