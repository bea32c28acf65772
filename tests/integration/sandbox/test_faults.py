"""Faults apply to the next calls according to their rules, and the ledger records what really happened."""

import asyncio
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings

from .conftest import SandboxClient, Start

CALLS = [("kickoff", "POST", "/kickoff"), ("status", "GET", "/status/x"), ("inputs", "GET", "/inputs")]
BODY = {"inputs": {"topic": "tides"}}


async def answered_codes(sandbox_client: SandboxClient) -> list[Any]:
    return [entry["answered"] for entry in (await sandbox_client.ledger())["kickoffs"]]


@pytest.mark.parametrize(("on", "method", "path"), CALLS)
async def test_http_responds_with_the_given_code_body_and_headers(
    start: Start, on: str, method: str, path: str
) -> None:
    sandbox_client = await start()
    rule = {"on": on, "do": "http", "code": 429, "body": "slow down", "headers": {"Retry-After": "3"}}
    await sandbox_client.inject({**rule, "content_type": "text/html"})
    async with sandbox_client.call(method, path, json=BODY) as response:
        assert (response.status, response.content_type, await response.text()) == (429, "text/html", "slow down")
        assert response.headers["Retry-After"] == "3"
    async with sandbox_client.call(method, path, json=BODY) as response:
        assert response.status == 200


async def test_http_with_an_object_as_body_responds_with_json(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "status", "do": "http", "code": 200, "body": {"state": "NOT FOUND"}})
    assert await sandbox_client.status("x") == {"state": "NOT FOUND"}


async def test_a_kickoff_with_an_http_fault_starts_nothing_but_is_in_the_ledger(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "http"})
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        assert response.status == 500
    ledger = await sandbox_client.ledger()
    assert (ledger["count"], ledger["started"], ledger["kickoffs"][0]["answered"]) == (1, 0, 500)
    assert ledger["kickoffs"][0]["inputs"] == BODY["inputs"]


async def test_garbage_is_a_200_with_html_and_starts_nothing(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "garbage"})
    async with sandbox_client.call("POST", "/kickoff", json=BODY) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    assert (await sandbox_client.ledger())["started"] == 0


async def test_delay_starts_the_execution_and_delays_the_response(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "delay", "seconds": 3600})
    kickoff = asyncio.create_task(sandbox_client.kickoff())
    while not (await sandbox_client.ledger())["started"]:
        pass
    assert not kickoff.done()
    kickoff.cancel()


async def test_a_short_delay_ends_in_the_usual_response(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "delay", "seconds": 0.001})
    assert await sandbox_client.states(await sandbox_client.kickoff()) == ["STARTED"]


async def test_the_kickoff_delay_of_the_settings_comes_after_the_start(start: Start) -> None:
    sandbox_client = await start(kickoff_delay=3600)
    kickoff = asyncio.create_task(sandbox_client.kickoff())
    while not (await sandbox_client.ledger())["started"]:
        pass
    assert not kickoff.done()
    kickoff.cancel()


@pytest.mark.parametrize(("on", "method", "path"), CALLS)
@pytest.mark.parametrize("do", ["hang_up_before", "hang_up_after"])
async def test_a_hang_up_closes_the_connection_without_a_response(
    start: Start, do: str, on: str, method: str, path: str
) -> None:
    sandbox_client = await start()
    # More than once: an HTTP client may repeat a GET on its own.
    await sandbox_client.inject({"on": on, "do": do, "times": None})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await sandbox_client.json(method, path, json=BODY)


async def test_a_hang_up_before_leaves_no_trace(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "hang_up_before"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await sandbox_client.kickoff()
    assert await answered_codes(sandbox_client) == []


async def test_a_hang_up_after_starts_the_execution_and_records_that_no_response_was_sent(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "hang_up_after"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await sandbox_client.kickoff()
    entry = (await sandbox_client.ledger())["kickoffs"][0]
    assert entry["answered"] is None
    assert await sandbox_client.states(entry["kickoff_id"]) == ["STARTED"]


async def test_rules_are_used_in_order_for_their_number_of_times(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject(
        {"on": "kickoff", "do": "http", "code": 502, "times": 2},
        {"on": "status", "do": "http", "code": 599},
        {"on": "kickoff", "do": "http", "code": 504},
    )
    for _ in range(4):
        async with sandbox_client.call("POST", "/kickoff", json=BODY):
            pass
    assert await answered_codes(sandbox_client) == [502, 502, 504, 200]
    assert [rule["on"] for rule in (await sandbox_client.json("GET", "/_faults"))["rules"]] == ["status"]


async def test_the_active_rules_are_listed_with_their_remaining_times(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "garbage", "times": 3})
    async with sandbox_client.call("POST", "/kickoff", json=BODY):
        pass
    assert await sandbox_client.json("GET", "/_faults") == {"rules": [{"on": "kickoff", "do": "garbage", "times": 2}]}


async def test_a_rule_without_an_end_applies_until_the_rules_are_cleared(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "http", "times": None})
    for method, path in [("POST", "/kickoff")] * 5 + [("DELETE", "/_faults"), ("POST", "/kickoff")]:
        async with sandbox_client.call(method, path, json=BODY):
            pass
    assert await answered_codes(sandbox_client) == [500] * 5 + [200]


async def test_a_fault_precedes_the_check_of_the_token(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.inject({"on": "inputs", "do": "http", "code": 502})
    async with sandbox_client.call("GET", "/inputs", headers={}) as response:
        assert response.status == 502


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("kickoff", "rule 1: must be an object"),
        ({"do": "http"}, "rule 1: on must be one of kickoff, status, inputs"),
        ({"on": "kickoff", "do": "explode"}, "rule 1: do must be one of http, garbage"),
        ({"on": "kickoff", "do": "http", "seconds": 1}, "rule 1: http has no member 'seconds'"),
        ({"on": "kickoff", "do": "http", "code": 99}, "rule 1: code must be"),
        ({"on": "kickoff", "do": "http", "headers": {"a": 1}}, "rule 1: headers must be"),
        ({"on": "kickoff", "do": "delay"}, "rule 1: seconds must be"),
        ({"on": "kickoff", "do": "garbage", "times": 0}, "rule 1: times must be"),
    ],
)
async def test_an_invalid_rule_is_refused_with_its_reason_and_none_is_added(
    start: Start, rule: Any, complaint: str
) -> None:
    sandbox_client = await start()
    code, answer = await sandbox_client.refusal("POST", "/_faults", json=[rule, {"on": "status", "do": "garbage"}])
    assert code == 422
    assert answer["detail"].startswith(complaint)
    assert await sandbox_client.json("GET", "/_faults") == {"rules": []}


async def test_rules_that_are_not_json_are_refused(start: Start) -> None:
    sandbox_client = await start()
    async with sandbox_client.call("POST", "/_faults", data=b"{") as response:
        assert response.status == 422


async def test_a_single_rule_needs_no_list(start: Start) -> None:
    sandbox_client = await start()
    code, _ = await sandbox_client.refusal("POST", "/_faults", json={"on": "status", "do": "garbage"})
    assert code == 200


async def test_a_fraction_of_kickoffs_is_refused_with_503_before_anything_happens(start: Start) -> None:
    sandbox_client = await start(kickoff_fault_rate=0.5)
    for _ in range(60):
        async with sandbox_client.call("POST", "/kickoff", json=BODY):
            pass
    ledger = await sandbox_client.ledger()
    codes = await answered_codes(sandbox_client)
    assert set(codes) == {200, 503}
    assert ledger["started"] == codes.count(200)
    assert 15 < codes.count(503) < 45


async def test_a_fraction_of_polls_is_refused_with_503(start: Start) -> None:
    sandbox_client = await start(status_fault_rate=1.0)
    kickoff_id = await sandbox_client.kickoff()
    assert await sandbox_client.refusal("GET", f"/status/{kickoff_id}") == (503, {"detail": "Service Unavailable"})


async def test_a_rule_can_be_limited_to_kickoffs_with_certain_inputs(start: Start) -> None:
    """Inputs match as text as well, because the client may have converted them."""
    sandbox_client = await start()
    await sandbox_client.inject({"on": "kickoff", "do": "hang_up_before", "inputs": {"order": 7}, "times": 2})
    await sandbox_client.kickoff(order=6)
    await sandbox_client.kickoff()
    for order in (7, "7"):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await sandbox_client.kickoff(order=order)
    await sandbox_client.kickoff(order=7)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"on": "status", "do": "never", "inputs": {"order": 7}}, "rule 1: inputs is only for kickoff"),
        ({"on": "kickoff", "do": "never", "inputs": 7}, "rule 1: inputs must be an object"),
    ],
)
def test_a_rule_with_invalid_inputs_is_refused(rule: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SandboxSettings(faults=(rule,))
