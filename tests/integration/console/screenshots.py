"""Draws the pictures of docs/console.md: `python -m tests.integration.console.screenshots`, with pngquant."""

import argparse
import asyncio
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import client_of
from tests.broker import running_broker
from tests.integration.console.conftest import UNFOLD, Console, browsing, launched, receiving, serving

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
KINDS = (("", WIDE, "light"), ("-dark", WIDE, "dark"), ("-phone", PHONE, "light"))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def fill(console: Console) -> dict[str, str]:
    """Submit runs of every kind, with ends over the last hour; return the ids of those to show."""
    for number in range(185):
        failure = {"sandbox_outcome": "failure", "sandbox_error": "the model did not respond"}
        outcome = failure if number % 17 == 5 or 60 < number < 68 else {}
        last = await console.submit("research", {"order": 4200 + number}, **outcome)
    await console.reached(last, "succeeded")
    with sqlite3.connect(console.database) as connection:
        connection.execute(SPREAD)
    report = await console.submit("research", {"order": 4381}, trace=TRACE, sandbox_result=REPORT)
    failing = await console.submit("research", {"order": 4382}, callback_url="http://127.0.0.1:9/orders")
    doubtful = [await console.submit("doubtful", {"order": 4383 + number}) for number in range(2)]
    asked = [await console.submit(crew, {"order": 4390}) for crew in ("reviewed", "proposed")]
    await console.reached(doubtful[1], "in_doubt")
    for run_id in asked:
        await console.reached(run_id, "waiting_for_human")
    [delivery] = [
        each["id"]
        for each in (await console.reached(failing, "succeeded"))["deliveries"]
        if ":9" in each["destination"]
    ]
    return {"report": report, "delivery": delivery, "doubtful": doubtful[0]}


async def refuse(url: str) -> None:
    """Publish messages that cannot be accepted."""
    async with client_of(url, Topology()) as client:
        await client.send({"crew": "reserch", "inputs": {"topic": "peat"}}, message_id="order-4391")
        await client.send(b"<order id='4392'/>", message_id="order-4392")
        await client.until_count(Topology().dead, 2)


async def draw(console: Console, ids: dict[str, str], folder: Path, locale: str) -> None:
    for name, view in (
        ("overview", "overview"),
        ("runs", "runs"),
        ("run", f"runs/{ids['report']}"),
        ("questions", "questions"),
        ("in-doubt", "in-doubt"),
        ("deliveries", "deliveries?state=pending"),
        ("delivery", f"deliveries/{ids['delivery']}"),
        ("dead-letters", "dead-letters"),
        ("crews", "crews"),
        ("crew", "crews/research"),
    ):
        for suffix, size, scheme in KINDS:
            page = await console.open(view, viewport=size, color_scheme=scheme, locale=locale)
            await page.wait_for_timeout(1500)  # for the second update, after which nothing moves
            await page.evaluate(UNFOLD if "dead" in view else "document.activeElement.blur()")
            await save(await page.screenshot(full_page=size is WIDE and view != "runs"), folder / f"{name}{suffix}.png")
            await page.context.close()
    page = await console.open(f"runs/{ids['doubtful']}", viewport=WIDE, locale=locale)
    await page.locator(".heading button").first.click()
    await save(await page.screenshot(), folder / "dialog.png")
    page = await console.open(role=None, viewport=PHONE, locale=locale)
    await save(await page.screenshot(), folder / "sign-in-phone.png")


async def save(picture: bytes, file: Path) -> None:
    command = ("pngquant", "--nofs", "--speed", "1", "--strip", "128", "-")
    done = await asyncio.to_thread(subprocess.run, command, input=picture, check=True, capture_output=True)
    await asyncio.to_thread(file.write_bytes, done.stdout)


async def main(pictures: Path, locale: str) -> None:
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        async with (
            receiving() as (receiver, ids),
            serving(Path(folder), receiver, {"url": broker.url, "results": "none"}) as url,
            launched() as browser,
            browsing(browser, url, Path(folder), ids) as console,
        ):
            found = await fill(console)
            await refuse(broker.url)
            await draw(console, found, pictures, locale)
            print(console.complaints or "no complaints")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--locale", default="en-US")
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    asyncio.run(main(arguments.folder, arguments.locale))
