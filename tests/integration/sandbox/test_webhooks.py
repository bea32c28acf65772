"""Task, step, crew and human-input webhooks go where the kickoff says, in the live shapes, and never hold up a run."""

import asyncio
import base64
from typing import Any

import pytest

from bridge.sandbox import parse_run_time

from .conftest import Receiver, Start

BEARER = {"strategy": "bearer", "token": "hook-token"}
BASIC = {"strategy": "basic", "username": "me", "password": "pass"}


def hooks(receiver: Receiver, *kinds: str) -> dict[str, Any]:
    return {f"{kind}WebhookUrl": f"{receiver.url}/{kind}" for kind in kinds}


async def test_a_task_webhook_comes_for_each_task_when_it_is_done(start: Start, receiver: Receiver) -> None:
    human_input = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await human_input.kickoff_with(hooks(receiver, "task"))
    assert await human_input.sent(9.9) == []
    assert await human_input.sent(0.1) == ["task"]
    assert await human_input.sent(20) == ["task"] * 3
    deliveries = await receiver.take(3)
    assert [delivery.body["name"] for delivery in deliveries] == ["collect_task", "draft_task", "review_task"]
    assert {delivery.path for delivery in deliveries} == {"/task"}
    assert set(deliveries[0].body) == {
        "name", "description", "expected_output", "summary", "agent", "output", "output_json", "kickoff_id", "meta",
    }  # fmt: skip
    assert (deliveries[0].body["kickoff_id"], deliveries[0].body["meta"]) == (kickoff_id, {"job": 1})


async def test_the_crew_webhook_tells_the_result_of_a_success(start: Start, receiver: Receiver) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff_with(hooks(receiver, "crew"), sandbox_result_json={"score": 8})
    await human_input.later(2)
    delivery = await receiver.one()
    body = delivery.body
    usage = body.pop("token_usage")
    assert body == {
        "kickoff_id": kickoff_id,
        "result": '{"score":8}',
        "result_json": {"score": 8},
        "meta": {"job": 1},
    }
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_a_failure_sends_no_crew_webhook_and_no_webhook_for_its_last_task(
    start: Start, receiver: Receiver
) -> None:
    human_input = await start()
    await human_input.kickoff_with(hooks(receiver, "crew", "task"), sandbox_outcome="failure")
    assert await human_input.sent(1000) == ["task", "task"]


async def test_an_agent_without_a_tool_sends_no_step_webhook(start: Start, receiver: Receiver) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff_with(hooks(receiver, "step"))
    assert await human_input.sent(2) == ["step", "step"]
    body = (await receiver.one()).body
    assert set(body) == {"prompt", "thought", "tool", "tool_input", "result", "kickoff_id", "meta"}
    assert body["kickoff_id"] == kickoff_id


async def test_the_url_members_carry_no_authorization(start: Start, receiver: Receiver) -> None:
    human_input = await start()
    await human_input.kickoff_with(hooks(receiver, "task", "step", "crew", "humanInput"), sandbox_human_questions=1)
    await human_input.later(1)
    deliveries = await receiver.take(4)
    assert {delivery.path for delivery in deliveries} == {"/task", "/step", "/humanInput"}
    assert not any("Authorization" in delivery.headers for delivery in deliveries)


@pytest.mark.parametrize(
    ("authentication", "header"),
    [
        (BEARER, "Bearer hook-token"),
        (BASIC, "Basic " + base64.b64encode(b"me:pass").decode()),
        (None, None),
        ({"strategy": "magic"}, None),
    ],
)
async def test_the_human_input_object_carries_what_it_asks_for(
    start: Start, receiver: Receiver, authentication: Any, header: str | None
) -> None:
    human_input = await start(human_questions=1)
    hook = {"url": f"{receiver.url}/human", "authentication": authentication}
    await human_input.kickoff_with({"humanInputWebhook": hook, "humanInputWebhookUrl": f"{receiver.url}/other"})
    await human_input.later(1)
    delivery = await receiver.one()
    assert (delivery.path, delivery.headers.get("Authorization")) == ("/human", header)


@pytest.mark.parametrize("nothing", ["", None, 7])
async def test_empty_addresses_are_no_addresses(start: Start, nothing: Any) -> None:
    human_input = await start(human_questions=0)
    names = ("taskWebhookUrl", "crewWebhookUrl", "humanInputWebhook", "webhooks")
    await human_input.kickoff_with(dict.fromkeys(names, nothing))
    assert await human_input.sent(1000) == []


async def test_webhooks_count_only_at_the_top_level(start: Start, receiver: Receiver) -> None:
    human_input = await start()
    await human_input.kickoff(**hooks(receiver, "crew"))
    assert await human_input.sent(1000) == []


async def test_a_flow_sends_none_of_them(start: Start, receiver: Receiver) -> None:
    human_input = await start(kind="flow")
    await human_input.kickoff_with(hooks(receiver, "task", "step", "crew", "humanInput"))
    assert await human_input.sent(1000) == []


async def test_the_ledger_tells_what_was_sent_and_what_it_met(start: Start, receiver: Receiver) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff_with(hooks(receiver, "crew"))
    await human_input.later(2)
    await receiver.one()
    while (note := (await human_input.ledger())["webhooks"][0])["answered"] is None:
        pass
    assert note == {
        "sent_at": human_input.clock.moment,
        "kind": "crew",
        "url": f"{receiver.url}/crew",
        "kickoff_id": kickoff_id,
        "answered": 204,
        "error": None,
    }


async def test_a_webhook_to_nowhere_is_told_in_the_ledger_and_the_run_goes_on(start: Start) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff_with(
        {"taskWebhookUrl": "http://127.0.0.1:9/x", "crewWebhookUrl": "no address"}
    )
    await human_input.later(2)
    while None in (errors := [note["error"] for note in (await human_input.ledger())["webhooks"]]):
        pass
    assert errors == ["ClientConnectorError"] * 3 + ["InvalidUrlClientError"]
    assert await human_input.states(kickoff_id) == ["SUCCESS"]


async def test_without_webhooks_there_is_one_task_for_any_number_of_runs(start: Start) -> None:
    human_input = await start()
    before = len(asyncio.all_tasks())
    for _ in range(20):
        await human_input.kickoff()
    assert len(asyncio.all_tasks()) <= before + 2  # the client's connection, and no more for more runs
