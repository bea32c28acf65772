"""The console in a browser: each view, each action through to the store, live updates, roles, and hostile texts.

By day, one test of each kind; a browser needs a second or two of CPU for each.
"""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.amqp_client import eventually
from tests.integration.console.conftest import TOKENS, Console, confirm
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


async def test_a_run_in_doubt_is_abandoned_with_a_reason(console: Console):
    run_id = await console.submit("doubtful")
    await console.reached(run_id, "in_doubt")
    page = await console.open(f"runs/{run_id}")
    await confirm(page, "Abandon", Reason="no trace of it at the crew")
    run = await console.reached(run_id, "failed")
    assert run["error"]["code"] == "abandoned"
    await expect(page.get_by_role("main")).to_contain_text("abandoned")
    await expect(page.get_by_role("button", name="Abandon")).to_have_count(0)


@pytest.mark.nightly
async def test_a_refused_adoption_is_explained(console: Console):
    console.refusals.add(409)
    run_id = await console.submit("doubtful")
    await console.reached(run_id, "in_doubt")
    page = await console.open("in-doubt")
    await page.get_by_role("button", name="Adopt").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Kickoff id").fill("00000000-0000-0000-0000-000000000000")
    await dialog.get_by_role("button", name="Adopt").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("unknown_execution")
    assert (await console.run(run_id))["state"] == "in_doubt"


async def test_a_question_is_answered(console: Console):
    run_id = await console.submit("reviewed")
    await console.reached(run_id, "waiting_for_human")
    page = await console.open("questions")
    await confirm(page, "Approve")
    await console.reached(run_id, "succeeded")
    await expect(page.get_by_text("No run waits for a human")).to_be_visible()


@pytest.mark.nightly
async def test_a_run_is_cancelled(console: Console):
    run_id = await console.submit("reviewed")
    await console.reached(run_id, "waiting_for_human")
    page = await console.open(f"runs/{run_id}")
    await confirm(page, "Cancel")
    await console.reached(run_id, "cancelled")


async def test_an_ended_run_is_retried_as_a_new_one(console: Console):
    run_id = await console.submit("research")
    await console.reached(run_id, "succeeded")
    page = await console.open(f"runs/{run_id}")
    await confirm(page, "Retry", Reason="better luck")
    await expect(page.get_by_role("heading", name=run_id[:18])).to_have_count(0)
    await expect(page.get_by_role("link", name=run_id[:18])).to_be_visible()  # retry of
    new = page.url.rpartition("/")[2]
    assert (await console.reached(new, "succeeded"))["retry_of"] == run_id


@pytest.mark.nightly
async def test_the_runs_that_match_are_counted_then_abandoned_together(console: Console):
    doubtful = [await console.submit("doubtful") for _ in range(2)]
    for run_id in doubtful:
        await console.reached(run_id, "in_doubt")
    page = await console.open("in-doubt")
    await page.get_by_role("button", name="Abandon all").click()
    await expect(page.get_by_role("dialog")).to_contain_text("2 match")
    await page.get_by_role("dialog").get_by_role("button", name="Abandon all").click()
    for run_id in doubtful:
        await console.reached(run_id, "failed")
    await expect(page.get_by_text("No run is in doubt")).to_be_visible()


@pytest.mark.nightly
async def test_a_failing_receiver_is_shown_and_its_delivery_is_discarded(console: Console):
    run_id = await console.submit("research", callback_url="http://127.0.0.1:9/closed")
    await console.reached(run_id, "succeeded")
    page = await console.open("deliveries?state=pending")
    await expect(page.get_by_text("failing")).to_be_visible()
    await confirm(page, "Discard", Reason="the receiver is gone")
    await page.get_by_role("link", name="dead", exact=True).click()
    await page.get_by_role("link", name="run.succeeded").click()
    await expect(page.get_by_role("main")).to_contain_text("127.0.0.1:9/closed")
    await expect(page.locator("tbody tr")).to_have_count(1)  # its attempt


@pytest.mark.nightly
async def test_a_crew_is_shown_with_its_settings_and_tried(console: Console):
    page = await console.open("crews/research")
    await expect(page.get_by_role("main")).to_contain_text("requests_per_second")
    await page.get_by_role("button", name="Send a test kickoff").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("topic").fill("peat")
    await dialog.get_by_role("button", name="Send a test kickoff").click()
    await page.wait_for_url("**/#/runs/*")
    run = await console.reached(page.url.rpartition("/")[2], "succeeded")
    assert run["meta"] == {"test": True}


@pytest.mark.nightly
async def test_a_delivery_is_sent_again(console: Console):
    run_id = await console.submit("research")
    await console.reached(run_id, "succeeded")
    await eventually(lambda: console.received)
    page = await console.open("deliveries?state=delivered")
    await confirm(page, "Redeliver")
    await eventually(lambda: len(console.received) == 2)
    assert len(set(console.received)) == 1


async def test_the_role_read_sees_no_action_and_may_send_none(console: Console):
    run_id = await console.submit("doubtful")
    await console.reached(run_id, "in_doubt")
    page = await console.open(f"runs/{run_id}", role="read")
    await expect(page.get_by_role("heading", name=run_id[:18])).to_be_visible()
    await expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)
    await expect(page.get_by_role("link", name="Deliveries")).to_have_count(0)
    headers = {"Authorization": f"Bearer {TOKENS['read']}"}
    async with console.http.post(f"/v1/runs/{run_id}/cancel", headers=headers) as response:
        assert response.status == 403


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
async def test_the_page_speaks_chinese(console: Console):
    page = await console.open(role=None, locale="zh-CN")
    await expect(page.get_by_role("heading", name="登录")).to_be_visible()
    assert await page.evaluate("document.documentElement.lang") == "zh"
