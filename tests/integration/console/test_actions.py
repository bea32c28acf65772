"""The console in a browser: each action through to the store, and those that a role may not use.

By day, one test of each kind.
"""

import sqlite3
import time

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.amqp_client import eventually
from tests.integration.console.conftest import TOKENS, Console, confirm
from tests.patience import PATIENCE

UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"

expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


async def choose_for_two_in_doubt(console: Console, button: str) -> tuple[Page, list[str]]:
    """Choose this action for all runs in doubt, of which there are two; return their ids."""
    doubtful = [await console.submit("doubtful") for _ in range(2)]
    for run_id in doubtful:
        await console.reached(run_id, "in_doubt")
    page = await console.open("in-doubt")
    await page.get_by_role("button", name=button).click()
    await expect(page.get_by_role("dialog")).to_contain_text("2 match")
    await page.get_by_role("dialog").get_by_role("button", name=button).click()
    return page, doubtful


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
    await dialog.get_by_label("Kickoff id").fill(UNKNOWN_ID)
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
    page, doubtful = await choose_for_two_in_doubt(console, "Abandon all")
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
    await expect(page.locator("tbody tr").first).to_contain_text("connection failed")  # its attempt


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
    await confirm(page.locator("tbody"), "Redeliver")
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


async def test_a_question_is_answered_with_one_of_its_options_by_keyboard(console: Console):
    run_id = await console.submit("proposed")
    await console.reached(run_id, "waiting_for_human")
    page = await console.open("questions")
    await expect(page.get_by_role("button", name="rejected")).to_be_visible()
    await page.get_by_role("button", name="approved").focus()
    for key in ("Enter", "Enter"):  # opens the dialog, then confirms it; the focus is in its field
        await page.keyboard.press(key)
    await console.reached(run_id, "succeeded")
    await expect(page.get_by_text("No run waits for a human")).to_be_visible()
    await expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.nightly
async def test_a_question_is_answered_in_words(console: Console):
    run_id = await console.submit("reviewed")
    await console.reached(run_id, "waiting_for_human")
    page = await console.open(f"runs/{run_id}")
    await page.get_by_role("button", name="Answer").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Answer", exact=True).fill("Name the sources.")
    await dialog.get_by_role("button", name="Answer").click()
    await expect(dialog).to_have_count(0)
    await expect(page.get_by_role("main")).to_contain_text("answer sent")


@pytest.mark.nightly
async def test_a_run_in_doubt_is_sent_again(console: Console):
    """The crew confirms the second kickoff neither, so the run is in doubt once more."""
    run_id = await console.submit("doubtful")
    await console.reached(run_id, "in_doubt")
    page = await console.open(f"runs/{run_id}")
    await confirm(page, "Retry", Reason="not found at the crew")

    async def posted_twice() -> bool:
        return [each["event"] for each in (await console.run(run_id))["history"]].count("posted") == 2

    await eventually(posted_twice)
    [command] = [each for each in (await console.run(run_id))["history"] if each["event"] == "command"]
    assert (command["command"], command["reason"]) == ("retry", "not found at the crew")


@pytest.mark.nightly
async def test_an_execution_that_the_crew_knows_is_adopted(console: Console):
    run_id = await console.submit("doubtful")
    await console.reached(run_id, "in_doubt")
    crew = (await console.get("/v1/crews/doubtful"))["settings"]["url"]
    headers = {"Authorization": "Bearer sandbox-token"}
    async with aiohttp.ClientSession(crew, headers=headers) as http:
        await http.delete("/_faults")
        async with http.post("/kickoff", json={"inputs": {"topic": "peat"}}) as response:
            kickoff_id = (await response.json())["kickoff_id"]
    page = await console.open("in-doubt")
    await expect(page.get_by_role("main")).to_contain_text("Kickoff sent")  # what is known
    await page.get_by_text("Inputs", exact=True).click()
    await expect(page.get_by_role("main")).to_contain_text("peat")
    await page.get_by_role("button", name="Adopt").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Kickoff id").fill(kickoff_id)
    await dialog.get_by_role("button", name="Adopt").click()
    assert (await console.reached(run_id, "succeeded"))["kickoff_id"] == kickoff_id
    await expect(page.get_by_text("No run is in doubt")).to_be_visible()


@pytest.mark.nightly
async def test_an_execution_that_the_crew_does_not_know_is_adopted_by_force(console: Console):
    run_id = await console.submit("doubtful")
    await console.reached(run_id, "in_doubt")
    page = await console.open(f"runs/{run_id}")
    await page.get_by_role("button", name="Adopt").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Kickoff id").fill(UNKNOWN_ID)
    await dialog.get_by_label("Even if").check()
    await dialog.get_by_role("button", name="Adopt").click()
    await expect(dialog).to_have_count(0)
    assert (await console.run(run_id))["kickoff_id"] == UNKNOWN_ID


async def test_the_runs_that_match_are_counted_then_cancelled_together(console: Console):
    waiting = [await console.submit("reviewed", {"tier": "gold"}) for _ in range(2)]
    other = await console.submit("reviewed")
    for run_id in (*waiting, other):
        await console.reached(run_id, "waiting_for_human")
    page = await console.open("runs?meta.tier=gold")
    await page.get_by_role("button", name="Cancel all").click()
    await expect(page.get_by_role("dialog")).to_contain_text("2 match")
    await page.get_by_role("dialog").get_by_role("button", name="Cancel all").click()
    for run_id in waiting:
        await console.reached(run_id, "cancelled")
    assert (await console.run(other))["state"] == "waiting_for_human"


@pytest.mark.nightly
async def test_the_runs_that_failed_are_counted_then_retried_together(console: Console):
    failed = [await console.submit("research", sandbox_outcome="failure") for _ in range(2)]
    for run_id in failed:
        await console.reached(run_id, "failed")
    page = await console.open("runs?state=failed")
    await page.get_by_role("button", name="Retry all").click()
    await expect(page.get_by_role("dialog")).to_contain_text("2 match")
    await page.get_by_role("dialog").get_by_role("button", name="Retry all").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    runs = (await console.get("/v1/runs"))["runs"]
    again = [await console.run(run["run_id"]) for run in runs if run["run_id"] not in failed]
    assert sorted(run["retry_of"] for run in again) == sorted(failed)


@pytest.mark.nightly
async def test_the_runs_in_doubt_are_sent_again_together(console: Console):
    _, doubtful = await choose_for_two_in_doubt(console, "Retry all")
    for run_id in doubtful:

        async def retried(wanted: str = run_id) -> bool:
            return "command" in [each["event"] for each in (await console.run(wanted))["history"]]

        await eventually(retried)


@pytest.mark.nightly
async def test_dead_deliveries_to_a_receiver_are_counted_then_sent_again(console: Console):
    for path in ("one", "two"):
        run_id = await console.submit("research", callback_url=f"http://127.0.0.1:9/{path}")
        await console.reached(run_id, "succeeded")
    page = await console.open("deliveries?state=pending")
    for left in (1, 0):
        await confirm(page, "Discard")
        await expect(page.get_by_role("button", name="Discard")).to_have_count(left)
    await page.get_by_role("link", name="dead", exact=True).click()
    await page.get_by_role("button", name="Redeliver dead").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("2 match")
    for receiver, count in (("https://shop.example:443", 0), ("http://127.0.0.1:9", 2)):
        await dialog.get_by_label("Only to this receiver").fill(receiver)
        await dialog.get_by_label("Reason").focus()
        await expect(dialog).to_contain_text(f"{count} match")
    await dialog.get_by_role("button", name="Redeliver dead").click()
    await expect(page.get_by_text("No delivery is dead")).to_be_visible()
    assert len((await console.get("/v1/deliveries?state=pending"))["deliveries"]) == 2


@pytest.mark.nightly
async def test_a_paused_receiver_is_resumed(console: Console):
    """A receiver is paused only after days; here, it is marked so in the store."""
    run_id = await console.submit("research", callback_url="http://127.0.0.1:9/closed")
    await console.reached(run_id, "succeeded")

    async def failing() -> bool:
        return bool((await console.get("/v1/receivers"))["receivers"])

    await eventually(failing)
    with sqlite3.connect(console.database) as connection:
        connection.execute("UPDATE receivers SET paused_at = ?", (time.time(),))
    page = await console.open()
    await page.get_by_role("link", name="paused receivers").click()
    await confirm(page, "Resume", Reason="back again")
    await expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    assert [each for each in (await console.get("/v1/receivers"))["receivers"] if each["paused_at"]] == []
