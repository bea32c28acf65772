"""Responses that break in transit: what the caller sees, and what the sandbox did nevertheless."""

import asyncio
import io
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, running

from .conftest import AT_ONCE, SandboxClient, Start

BODY = {"inputs": {"topic": "tides"}}


async def faulty(start: Start, **rule: Any) -> SandboxClient:
    """A sandbox whose next kickoff fails."""
    sandbox_client: SandboxClient = await start()
    await sandbox_client.inject({"on": "kickoff", **rule})
    return sandbox_client


async def only_entry(sandbox_client: SandboxClient) -> Any:
    [entry] = (await sandbox_client.ledger())["kickoffs"]
    return entry


async def test_never_starts_an_execution_and_does_not_respond(start: Start) -> None:
    sandbox_client = await faulty(start, do="never")
    kickoff = asyncio.create_task(sandbox_client.json("POST", "/kickoff", json=BODY))
    while not (await sandbox_client.ledger())["started"]:
        pass
    await asyncio.wait([kickoff], timeout=0.05)
    assert not kickoff.done()
    kickoff.cancel()
    entry = await only_entry(sandbox_client)
    assert (entry["answered"], bool(entry["kickoff_id"])) == (None, True)


async def test_slow_sends_one_byte_at_a_time(start: Start) -> None:
    sandbox_client = await faulty(start, do="slow", seconds=0.001)
    kickoff_id = (await sandbox_client.json("POST", "/kickoff", json=BODY))["kickoff_id"]
    assert (await only_entry(sandbox_client))["kickoff_id"] == kickoff_id


async def test_slow_takes_a_second_per_byte_by_default(start: Start) -> None:
    sandbox_client = await faulty(start, do="slow")
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await response.read()
        assert response.status == 200


async def test_huge_pads_the_response_with_valid_json(start: Start) -> None:
    sandbox_client = await faulty(start, do="huge", bytes=100_000)
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        assert len(await response.read()) > 100_000
        assert (await response.json())["kickoff_id"] == (await only_entry(sandbox_client))["kickoff_id"]


async def test_huge_is_20_mib_by_default(start: Start) -> None:
    sandbox_client = await faulty(start, do="huge")
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        assert response.content_length is not None
        assert response.content_length > 20 * 1024 * 1024


async def test_a_caller_that_disconnects_during_a_response_is_not_an_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox_client = await faulty(start, do="huge")
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        response.close()
    await sandbox_client.later()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_truncated_is_half_of_the_json_with_a_matching_length(start: Start) -> None:
    sandbox_client = await faulty(start, do="truncated")
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        text = await response.text()
        assert (response.status, response.content_length) == (200, len(text))
    assert text.startswith('{"kickoff_id":')
    assert not text.endswith("}")


async def test_cut_off_closes_the_connection_within_the_body(start: Start) -> None:
    sandbox_client = await faulty(start, do="cut_off")
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert (await only_entry(sandbox_client))["kickoff_id"]


async def test_slow_503_starts_nothing_and_is_slow(start: Start) -> None:
    sandbox_client = await faulty(start, do="slow_503", seconds=0.001)
    assert (await sandbox_client.refusal("POST", "/kickoff", json=BODY))[0] == 503
    assert (await only_entry(sandbox_client))["kickoff_id"] is None


@pytest.mark.parametrize(
    ("do", "seen", "started"), [("reset_before", 0, 0), ("reset_during", 1, 0), ("reset_after", 1, 1)]
)
async def test_a_reset_comes_before_during_or_after_the_work(start: Start, do: str, seen: int, started: int) -> None:
    sandbox_client = await faulty(start, do=do)
    with pytest.raises(aiohttp.ClientOSError):
        await sandbox_client.kickoff()
    ledger = await sandbox_client.ledger()
    assert (ledger["count"], ledger["started"]) == (seen, started)


async def test_reset_during_does_not_wait_for_the_body(start: Start) -> None:
    """The connection of the caller is reset while it is still sending."""
    sandbox_client = await faulty(start, do="reset_during")
    with pytest.raises(aiohttp.ClientOSError):
        await sandbox_client.json("POST", "/kickoff", data=io.BytesIO(b"x" * 8_000_000))
    entry = await only_entry(sandbox_client)
    assert (entry["inputs"], entry["answered"], entry["kickoff_id"]) == (None, None, None)


async def test_same_id_repeats_the_last_id(start: Start) -> None:
    sandbox_client = await start()
    first = await sandbox_client.kickoff()
    await sandbox_client.inject({"on": "kickoff", "do": "same_id", "times": 2})
    assert [await sandbox_client.kickoff() for _ in range(2)] == [first, first]
    ledger = await sandbox_client.ledger()
    assert len({entry["kickoff_id"] for entry in ledger["kickoffs"]}) == 3


async def test_same_id_without_an_earlier_execution_returns_the_real_one(start: Start) -> None:
    sandbox_client = await faulty(start, do="same_id")
    assert await sandbox_client.kickoff() == (await only_entry(sandbox_client))["kickoff_id"]


@pytest.mark.parametrize("wrong_id", [None, "", "../resume", 7, ["x"]])
async def test_wrong_id_returns_the_id_of_the_rule(start: Start, wrong_id: Any) -> None:
    sandbox_client = await faulty(start, do="wrong_id", id=wrong_id)
    assert await sandbox_client.json("POST", "/kickoff", json=BODY) == {"kickoff_id": wrong_id}
    assert (await sandbox_client.ledger())["started"] == 1


async def test_not_found_hides_an_execution_once(start: Start) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    await sandbox_client.inject({"on": "status", "do": "not_found"})
    assert await sandbox_client.states(kickoff_id, kickoff_id) == ["NOT FOUND", "STARTED"]


@pytest.mark.parametrize("do", ["slow", "never", "truncated", "cut_off", "reset_after", "hang_up_after"])
async def test_a_faulty_poll_does_not_change_the_execution(start: Start, do: str) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    await sandbox_client.inject({"on": "status", "do": do, "times": None})
    poll = asyncio.create_task(sandbox_client.json("GET", f"/status/{kickoff_id}"))
    while kickoff_id not in (await sandbox_client.ledger())["polls_by_id"]:
        pass
    if do in {"slow", "never"}:
        poll.cancel()
    with pytest.raises((aiohttp.ClientError, asyncio.CancelledError, ValueError)):
        await poll
    async with sandbox_client.call("DELETE", "/_faults", headers={}):
        pass
    assert await sandbox_client.states(kickoff_id) == ["STARTED"]
    assert (await sandbox_client.ledger())["polls_by_id"][kickoff_id] >= 2


async def test_a_rule_with_a_rate_applies_to_that_fraction_of_calls(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "status", "do": "http", "code": 500, "rate": 0.5, "times": None})
    codes = []
    for _ in range(60):
        async with sandbox_client.call("GET", "/status/x") as response:
            codes.append(response.status)
    assert 15 < codes.count(500) < 45
    assert set(codes) == {200, 500}


async def test_a_waiting_caller_does_not_delay_the_end_of_the_sandbox() -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer sandbox-token"}) as session:
        rule = {"on": "kickoff", "do": "never"}
        async with asyncio.timeout(AT_ONCE), running(SandboxSettings(faults=(rule,))) as url:
            kickoff = asyncio.create_task(session.post(f"{url}/kickoff", json=BODY))
            while not (await (await session.get(f"{url}/_ledger")).json())["started"]:
                pass
        with pytest.raises(aiohttp.ClientError):
            await kickoff
