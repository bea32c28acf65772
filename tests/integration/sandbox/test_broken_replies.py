"""Answers that are broken on their way: what their caller sees of each, and what was done all the same."""

import asyncio
import io
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, running

from .conftest import AT_ONCE, HumanInput, Start

BODY = {"inputs": {"topic": "tides"}}


async def spoiled(start: Start, **rule: Any) -> HumanInput:
    """A sandbox whose next kickoff goes wrong."""
    human_input: HumanInput = await start()
    await human_input.spoil({"on": "kickoff", **rule})
    return human_input


async def only_entry(human_input: HumanInput) -> Any:
    [entry] = (await human_input.ledger())["kickoffs"]
    return entry


async def test_never_starts_an_execution_and_leaves_its_caller_waiting(start: Start) -> None:
    human_input = await spoiled(start, do="never")
    asked = asyncio.create_task(human_input.json("POST", "/kickoff", json=BODY))
    while not (await human_input.ledger())["started"]:
        pass
    await asyncio.wait([asked], timeout=0.05)
    assert not asked.done()
    asked.cancel()
    entry = await only_entry(human_input)
    assert (entry["answered"], bool(entry["kickoff_id"])) == (None, True)


async def test_slow_answers_one_byte_at_a_time(start: Start) -> None:
    human_input = await spoiled(start, do="slow", seconds=0.001)
    kickoff_id = (await human_input.json("POST", "/kickoff", json=BODY))["kickoff_id"]
    assert (await only_entry(human_input))["kickoff_id"] == kickoff_id


async def test_slow_takes_a_second_for_a_byte_unless_told(start: Start) -> None:
    human_input = await spoiled(start, do="slow")
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await response.read()
        assert response.status == 200


async def test_huge_pads_the_answer_but_leaves_it_json(start: Start) -> None:
    human_input = await spoiled(start, do="huge", bytes=100_000)
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        assert len(await response.read()) > 100_000
        assert (await response.json())["kickoff_id"] == (await only_entry(human_input))["kickoff_id"]


async def test_huge_weighs_20_mib_unless_told(start: Start) -> None:
    human_input = await spoiled(start, do="huge")
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        assert response.content_length is not None
        assert response.content_length > 20 * 1024 * 1024


async def test_a_caller_who_leaves_in_the_middle_of_an_answer_is_no_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    human_input = await spoiled(start, do="huge")
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        response.close()
    await human_input.later()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_truncated_is_half_of_the_json_as_if_it_were_all(start: Start) -> None:
    human_input = await spoiled(start, do="truncated")
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        text = await response.text()
        assert (response.status, response.content_length) == (200, len(text))
    assert text.startswith('{"kickoff_id":')
    assert not text.endswith("}")


async def test_cut_off_ends_the_connection_in_the_middle_of_the_body(start: Start) -> None:
    human_input = await spoiled(start, do="cut_off")
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert (await only_entry(human_input))["kickoff_id"]


async def test_slow_503_starts_nothing_and_takes_its_time(start: Start) -> None:
    human_input = await spoiled(start, do="slow_503", seconds=0.001)
    assert (await human_input.refusal("POST", "/kickoff", json=BODY))[0] == 503
    assert (await only_entry(human_input))["kickoff_id"] is None


@pytest.mark.parametrize(
    ("do", "seen", "started"), [("reset_before", 0, 0), ("reset_during", 1, 0), ("reset_after", 1, 1)]
)
async def test_a_reset_comes_before_during_or_after_the_work(start: Start, do: str, seen: int, started: int) -> None:
    human_input = await spoiled(start, do=do)
    with pytest.raises(aiohttp.ClientOSError):
        await human_input.kickoff()
    ledger = await human_input.ledger()
    assert (ledger["count"], ledger["started"]) == (seen, started)


async def test_reset_during_does_not_wait_for_the_body(start: Start) -> None:
    """The caller is cut off while it still writes."""
    human_input = await spoiled(start, do="reset_during")
    with pytest.raises(aiohttp.ClientOSError):
        await human_input.json("POST", "/kickoff", data=io.BytesIO(b"x" * 8_000_000))
    entry = await only_entry(human_input)
    assert (entry["inputs"], entry["answered"], entry["kickoff_id"]) == (None, None, None)


async def test_same_id_tells_the_id_that_was_told_last(start: Start) -> None:
    human_input = await start()
    first = await human_input.kickoff()
    await human_input.spoil({"on": "kickoff", "do": "same_id", "times": 2})
    assert [await human_input.kickoff() for _ in range(2)] == [first, first]
    ledger = await human_input.ledger()
    assert len({entry["kickoff_id"] for entry in ledger["kickoffs"]}) == 3


async def test_same_id_without_an_execution_before_tells_the_real_one(start: Start) -> None:
    human_input = await spoiled(start, do="same_id")
    assert await human_input.kickoff() == (await only_entry(human_input))["kickoff_id"]


@pytest.mark.parametrize("told", [None, "", "../resume", 7, ["x"]])
async def test_wrong_id_tells_what_the_rule_says(start: Start, told: Any) -> None:
    human_input = await spoiled(start, do="wrong_id", id=told)
    assert await human_input.json("POST", "/kickoff", json=BODY) == {"kickoff_id": told}
    assert (await human_input.ledger())["started"] == 1


async def test_not_found_knows_nothing_of_an_execution_once(start: Start) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff()
    await human_input.spoil({"on": "status", "do": "not_found"})
    assert await human_input.states(kickoff_id, kickoff_id) == ["NOT FOUND", "STARTED"]


@pytest.mark.parametrize("do", ["slow", "never", "truncated", "cut_off", "reset_after", "hang_up_after"])
async def test_a_spoiled_look_does_not_touch_the_execution(start: Start, do: str) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff()
    await human_input.spoil({"on": "status", "do": do, "times": None})
    looking = asyncio.create_task(human_input.json("GET", f"/status/{kickoff_id}"))
    while kickoff_id not in (await human_input.ledger())["polls_by_id"]:
        pass
    if do in {"slow", "never"}:
        looking.cancel()
    with pytest.raises((aiohttp.ClientError, asyncio.CancelledError, ValueError)):
        await looking
    async with human_input.call("DELETE", "/_faults", headers={}):
        pass
    assert await human_input.states(kickoff_id) == ["STARTED"]
    assert (await human_input.ledger())["polls_by_id"][kickoff_id] >= 2


async def test_a_rule_with_a_rate_meets_its_share_of_the_calls(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "status", "do": "http", "code": 500, "rate": 0.5, "times": None})
    codes = []
    for _ in range(60):
        async with human_input.call("GET", "/status/x") as response:
            codes.append(response.status)
    assert 15 < codes.count(500) < 45
    assert set(codes) == {200, 500}


async def test_a_caller_who_waits_for_ever_does_not_hold_up_the_end_of_the_sandbox() -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer sandbox-token"}) as session:
        rule = {"on": "kickoff", "do": "never"}
        async with asyncio.timeout(AT_ONCE), running(SandboxSettings(faults=(rule,))) as url:
            asked = asyncio.create_task(session.post(f"{url}/kickoff", json=BODY))
            while not (await (await session.get(f"{url}/_ledger")).json())["started"]:
                pass
        with pytest.raises(aiohttp.ClientError):
            await asked
