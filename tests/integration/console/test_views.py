"""The console in a browser: each view, live updates, the token, the keyboard, and hostile texts.

By day, one test of each kind; a browser needs a second or two of CPU for each.
"""

import asyncio
import json
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.integration.console.conftest import TOKENS, Console
from tests.patience import PATIENCE

HOSTILE = [
    pytest.param("<img src=x onerror=\"document.title='ran'\">", id="markup"),
    pytest.param("long " * 200_000, id="length", marks=pytest.mark.nightly),
    pytest.param("\u202eright to left", id="direction", marks=pytest.mark.nightly),
    pytest.param("line\n" * 10_000, id="lines", marks=pytest.mark.nightly),
]

expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


async def test_the_overview_links_what_needs_a_human(console: Console):
    doubtful = await console.submit("doubtful")
    await console.reached(doubtful, "in_doubt")
    page = await console.open()
    await expect(page.get_by_role("heading", name="All parts work")).to_be_visible()
    for crew in ("research", "reviewed", "doubtful"):
        await expect(page.get_by_role("main")).to_contain_text(crew)
    await page.get_by_role("link", name="runs in doubt").click()
    await expect(page.get_by_role("link", name=doubtful[:18])).to_be_visible()


async def test_runs_appear_by_themselves(console: Console):
    page = await console.open("runs")
    await expect(page.get_by_text("No runs yet")).to_be_visible()
    submitted = await asyncio.gather(*(console.submit("research") for _ in range(50)))
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    await expect(rows.filter(has_text="succeeded")).to_have_count(50)
    shown = await page.locator("tbody a").all_inner_texts()
    assert sorted(shown) == sorted(run_id[:18] for run_id in submitted)


@pytest.mark.nightly
async def test_filters_are_in_the_address(console: Console):
    done = await console.submit("research")
    await console.reached(done, "succeeded")
    await console.submit("doubtful")
    page = await console.open("runs")
    await page.get_by_label("State").select_option("succeeded")
    await page.wait_for_url("**/#/runs?state=succeeded")
    await expect(page.locator("tbody a")).to_have_text([done[:18]])
    await page.get_by_label("Search").fill(done)
    await page.get_by_role("button", name="Find").click()
    await page.wait_for_url(f"**/#/runs/{done}")


@pytest.mark.nightly
async def test_an_unknown_filter_is_explained_by_the_api(console: Console):
    console.refusals.add(422)
    page = await console.open("runs?colour=red")
    await expect(page.get_by_role("alert")).to_contain_text("invalid_request")


@pytest.mark.nightly
async def test_runs_are_reached_by_keyboard(console: Console):
    older, newer = [await console.submit("research") for _ in range(2)]
    for run_id in (older, newer):
        await console.reached(run_id, "succeeded")
    page = await console.open("runs")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.get_by_role("link", name=newer[:18]).focus()
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name=older[:18])).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=older[:18])).to_be_visible()


async def test_a_wrong_token_is_refused_and_a_right_one_kept_in_the_tab(console: Console):
    page = await console.open(role=None)
    for token in ("wrong", TOKENS["read"]):
        await page.get_by_label("Token").fill(token)
        await page.get_by_role("button", name="Sign in").click()
        if token == "wrong":
            await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await expect(page.get_by_role("heading", name="All parts work")).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("heading", name="All parts work")).to_be_visible()
    another = await page.context.new_page()
    await another.goto(console.url)
    await expect(another.get_by_role("heading", name="Sign in")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.nightly
async def test_the_stream_reconnects(console: Console):
    """The first stream ends at once, as an expired one does; the page opens the next by itself."""
    page = await console.open("runs")
    ended = 0

    async def end_first(route: Route) -> None:
        nonlocal ended
        ended += 1
        await (
            route.fulfill(content_type="text/event-stream", body="retry: 1\n\n") if ended == 1 else route.continue_()
        )

    await page.route("**/v1/events", end_first)
    await page.reload()
    await expect(page.get_by_role("status")).to_have_text("reconnecting")
    await expect(page.get_by_role("status")).to_have_text("live")
    assert ended > 1


@pytest.mark.parametrize("text", HOSTILE)
async def test_texts_from_outside_are_only_text(console: Console, text: str):
    meta: Any = {"text": text[:1000]}
    succeeded = await console.submit("research", meta, sandbox_result=text)
    failed = await console.submit("research", meta, sandbox_outcome="failure", sandbox_error=text)
    for run_id, state in ((succeeded, "succeeded"), (failed, "failed")):
        await console.reached(run_id, state)
        page = await console.open(f"runs/{run_id}", viewport={"width": 360, "height": 700})
        await expect(page.get_by_role("heading", name=run_id[:18])).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text(text[:30].strip())
        assert await page.title() == f"{run_id} · Kickoff Bridge"
        assert await page.locator("main img").count() == 0
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.nightly
async def test_large_inputs_are_collapsed_and_can_be_saved(console: Console):
    text, trace = "peat " * 8000, "4bf92f3577b34da6a3ce929d0e0e4736"
    run_id = await console.submit("research", trace=trace, topic=text)
    await console.reached(run_id, "succeeded")
    page = await console.open(f"runs/{run_id}")
    await expect(page.get_by_role("main")).to_contain_text(trace)
    inputs = page.locator("details[data-name=Inputs]")
    await expect(inputs.locator("pre")).to_be_hidden()
    await inputs.get_by_text("Inputs", exact=True).click()
    async with page.expect_download() as download:
        await inputs.get_by_role("button", name="Save all as a file").click()
    saved = await (await download.value).path()
    assert json.loads(saved.read_text()) == {"topic": text}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["kickoff_id", "idempotency_key", "run_id"])
async def test_an_id_of_any_kind_finds_its_run(console: Console, kind: str):
    """A kickoff id, and many keys, look like the id of a run."""
    console.refusals.add(404)
    run_id = await console.submit("research")
    run = await console.reached(run_id, "succeeded")
    if kind == "idempotency_key":
        body = {"crew": "research", "inputs": {"topic": "peat"}, kind: "12345678"}
        async with console.http.post("/v1/runs", json=body) as response:
            run = await response.json()
    page = await console.open()
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.keyboard.type(run[kind])
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main").get_by_text(run["run_id"][:18])).to_be_visible()
    await expect(page.get_by_text("No run matches")).to_have_count(0)


@pytest.mark.nightly
async def test_a_client_that_only_submits_sees_no_numbers_of_others(console: Console):
    """They read 0, although runs were in doubt."""
    await console.reached(await console.submit("doubtful"), "in_doubt")
    page = await console.open(role="submit")
    await expect(page.get_by_role("main")).to_contain_text("research")
    await expect(page.get_by_text("runs in doubt")).to_have_count(0)


@pytest.mark.nightly
async def test_the_page_speaks_chinese(console: Console):
    page = await console.open(role=None, locale="zh-CN")
    await expect(page.get_by_role("heading", name="登录")).to_be_visible()
    assert await page.evaluate("document.documentElement.lang") == "zh"
