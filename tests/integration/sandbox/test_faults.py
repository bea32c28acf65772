"""Faults spoil the next calls as their rules say, and the ledger tells what really happened."""

import asyncio
from typing import Any

import aiohttp
import pytest

from .conftest import HumanInput, Start

CALLS = [("kickoff", "POST", "/kickoff"), ("status", "GET", "/status/x"), ("inputs", "GET", "/inputs")]
BODY = {"inputs": {"topic": "tides"}}


async def answered(human_input: HumanInput) -> list[Any]:
    return [entry["answered"] for entry in (await human_input.ledger())["kickoffs"]]


@pytest.mark.parametrize(("on", "method", "path"), CALLS)
async def test_http_answers_with_the_given_code_body_and_headers(start: Start, on: str, method: str, path: str) -> None:
    human_input = await start()
    rule = {"on": on, "do": "http", "code": 429, "body": "slow down", "headers": {"Retry-After": "3"}}
    await human_input.spoil({**rule, "content_type": "text/html"})
    async with human_input.call(method, path, json=BODY) as response:
        assert (response.status, response.content_type, await response.text()) == (429, "text/html", "slow down")
        assert response.headers["Retry-After"] == "3"
    async with human_input.call(method, path, json=BODY) as response:
        assert response.status == 200


async def test_http_with_an_object_as_body_answers_json(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "status", "do": "http", "code": 200, "body": {"state": "NOT FOUND"}})
    assert await human_input.status("x") == {"state": "NOT FOUND"}


async def test_a_kickoff_spoiled_by_http_starts_nothing_but_is_in_the_ledger(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "http"})
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        assert response.status == 500
    ledger = await human_input.ledger()
    assert (ledger["count"], ledger["started"], ledger["kickoffs"][0]["answered"]) == (1, 0, 500)
    assert ledger["kickoffs"][0]["inputs"] == BODY["inputs"]


async def test_garbage_is_a_200_with_html_and_starts_nothing(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "garbage"})
    async with human_input.call("POST", "/kickoff", json=BODY) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    assert (await human_input.ledger())["started"] == 0


async def test_delay_does_the_work_and_lets_the_caller_wait(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "delay", "seconds": 3600})
    asked = asyncio.create_task(human_input.kickoff())
    while not (await human_input.ledger())["started"]:
        pass
    assert not asked.done()
    asked.cancel()


async def test_a_short_delay_ends_in_the_usual_answer(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "delay", "seconds": 0.001})
    assert await human_input.states(await human_input.kickoff()) == ["STARTED"]


async def test_the_kickoff_delay_of_the_settings_comes_after_the_start(start: Start) -> None:
    human_input = await start(kickoff_delay=3600)
    asked = asyncio.create_task(human_input.kickoff())
    while not (await human_input.ledger())["started"]:
        pass
    assert not asked.done()
    asked.cancel()


@pytest.mark.parametrize(("on", "method", "path"), CALLS)
@pytest.mark.parametrize("do", ["hang_up_before", "hang_up_after"])
async def test_a_hang_up_closes_the_connection_without_an_answer(
    start: Start, do: str, on: str, method: str, path: str
) -> None:
    human_input = await start()
    # More than once: an HTTP client may try a GET again on its own.
    await human_input.spoil({"on": on, "do": do, "times": None})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await human_input.json(method, path, json=BODY)


async def test_a_hang_up_before_leaves_no_trace(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "hang_up_before"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await human_input.kickoff()
    assert await answered(human_input) == []


async def test_a_hang_up_after_starts_the_execution_and_records_that_nobody_was_told(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "hang_up_after"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await human_input.kickoff()
    entry = (await human_input.ledger())["kickoffs"][0]
    assert entry["answered"] is None
    assert await human_input.states(entry["kickoff_id"]) == ["STARTED"]


async def test_rules_are_used_up_in_order_as_often_as_they_say(start: Start) -> None:
    human_input = await start()
    await human_input.spoil(
        {"on": "kickoff", "do": "http", "code": 502, "times": 2},
        {"on": "status", "do": "http", "code": 599},
        {"on": "kickoff", "do": "http", "code": 504},
    )
    for _ in range(4):
        async with human_input.call("POST", "/kickoff", json=BODY):
            pass
    assert await answered(human_input) == [502, 502, 504, 200]
    assert [rule["on"] for rule in (await human_input.json("GET", "/_faults"))["rules"]] == ["status"]


async def test_the_rules_in_force_are_shown_with_the_times_they_have_left(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "garbage", "times": 3})
    async with human_input.call("POST", "/kickoff", json=BODY):
        pass
    assert await human_input.json("GET", "/_faults") == {"rules": [{"on": "kickoff", "do": "garbage", "times": 2}]}


async def test_a_rule_without_an_end_holds_until_the_rules_are_cleared(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "kickoff", "do": "http", "times": None})
    for method, path in [("POST", "/kickoff")] * 5 + [("DELETE", "/_faults"), ("POST", "/kickoff")]:
        async with human_input.call(method, path, json=BODY):
            pass
    assert await answered(human_input) == [500] * 5 + [200]


async def test_a_fault_comes_before_the_token_is_looked_at(start: Start) -> None:
    human_input = await start()
    await human_input.spoil({"on": "inputs", "do": "http", "code": 502})
    async with human_input.call("GET", "/inputs", headers={}) as response:
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
async def test_a_wrong_rule_is_refused_with_its_reason_and_none_is_added(
    start: Start, rule: Any, complaint: str
) -> None:
    human_input = await start()
    code, answer = await human_input.refusal("POST", "/_faults", json=[rule, {"on": "status", "do": "garbage"}])
    assert code == 422
    assert answer["detail"].startswith(complaint)
    assert await human_input.json("GET", "/_faults") == {"rules": []}


async def test_rules_that_are_not_json_are_refused(start: Start) -> None:
    human_input = await start()
    async with human_input.call("POST", "/_faults", data=b"{") as response:
        assert response.status == 422


async def test_a_single_rule_needs_no_list(start: Start) -> None:
    human_input = await start()
    code, _ = await human_input.refusal("POST", "/_faults", json={"on": "status", "do": "garbage"})
    assert code == 200


async def test_a_share_of_kickoffs_is_answered_503_before_anything_happens(start: Start) -> None:
    human_input = await start(kickoff_fault_rate=0.5)
    for _ in range(60):
        async with human_input.call("POST", "/kickoff", json=BODY):
            pass
    ledger = await human_input.ledger()
    codes = await answered(human_input)
    assert set(codes) == {200, 503}
    assert ledger["started"] == codes.count(200)
    assert 15 < codes.count(503) < 45


async def test_a_share_of_looks_is_answered_503(start: Start) -> None:
    human_input = await start(status_fault_rate=1.0)
    kickoff_id = await human_input.kickoff()
    assert await human_input.refusal("GET", f"/status/{kickoff_id}") == (503, {"detail": "Service Unavailable"})
