"""Task, step, crew, and human-input webhooks go where the kickoff says, in the live formats, and never delay a run."""

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


async def test_each_finished_task_sends_a_task_webhook(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await sandbox_client.kickoff_with(hooks(receiver, "task"))
    assert await sandbox_client.sent(9.9) == []
    assert await sandbox_client.sent(0.1) == ["task"]
    assert await sandbox_client.sent(20) == ["task"] * 3
    deliveries = await receiver.take(3)
    assert [delivery.body["name"] for delivery in deliveries] == ["collect_task", "draft_task", "review_task"]
    assert {delivery.path for delivery in deliveries} == {"/task"}
    assert set(deliveries[0].body) == {
        "name", "description", "expected_output", "summary", "agent", "output", "output_json", "kickoff_id", "meta",
    }  # fmt: skip
    assert (deliveries[0].body["kickoff_id"], deliveries[0].body["meta"]) == (kickoff_id, {"job": 1})


async def test_the_crew_webhook_contains_the_result_of_a_success(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(hooks(receiver, "crew"), sandbox_result_json={"score": 8})
    await sandbox_client.later(2)
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
    sandbox_client = await start()
    await sandbox_client.kickoff_with(hooks(receiver, "crew", "task"), sandbox_outcome="failure")
    assert await sandbox_client.sent(1000) == ["task", "task"]


async def test_an_agent_without_a_tool_sends_no_step_webhook(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(hooks(receiver, "step"))
    assert await sandbox_client.sent(2) == ["step", "step"]
    body = (await receiver.one()).body
    assert set(body) == {"prompt", "thought", "tool", "tool_input", "result", "kickoff_id", "meta"}
    assert body["kickoff_id"] == kickoff_id


async def test_the_url_members_have_no_authorization(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with(hooks(receiver, "task", "step", "crew", "humanInput"), sandbox_human_questions=1)
    await sandbox_client.later(1)
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
async def test_the_human_input_object_contains_the_requested_authorization(
    start: Start, receiver: Receiver, authentication: Any, header: str | None
) -> None:
    sandbox_client = await start(human_questions=1)
    hook = {"url": f"{receiver.url}/human", "authentication": authentication}
    await sandbox_client.kickoff_with({"humanInputWebhook": hook, "humanInputWebhookUrl": f"{receiver.url}/other"})
    await sandbox_client.later(1)
    delivery = await receiver.one()
    assert (delivery.path, delivery.headers.get("Authorization")) == ("/human", header)


@pytest.mark.parametrize("nothing", ["", None, 7])
async def test_empty_urls_are_ignored(start: Start, nothing: Any) -> None:
    sandbox_client = await start(human_questions=0)
    names = ("taskWebhookUrl", "crewWebhookUrl", "humanInputWebhook", "webhooks")
    await sandbox_client.kickoff_with(dict.fromkeys(names, nothing))
    assert await sandbox_client.sent(1000) == []


async def test_webhooks_count_only_at_the_top_level(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff(**hooks(receiver, "crew"))
    assert await sandbox_client.sent(1000) == []


async def test_a_flow_sends_none_of_them(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow")
    await sandbox_client.kickoff_with(hooks(receiver, "task", "step", "crew", "humanInput"))
    assert await sandbox_client.sent(1000) == []


async def test_the_ledger_records_what_was_sent_and_the_response(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(hooks(receiver, "crew"))
    await sandbox_client.later(2)
    await receiver.one()
    while (note := (await sandbox_client.ledger())["webhooks"][0])["answered"] is None:
        pass
    assert note == {
        "sent_at": sandbox_client.clock.moment,
        "kind": "crew",
        "url": f"{receiver.url}/crew",
        "kickoff_id": kickoff_id,
        "answered": 204,
        "error": None,
    }


async def test_an_undeliverable_webhook_is_in_the_ledger_and_the_run_continues(start: Start) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(
        {"taskWebhookUrl": "http://127.0.0.1:9/x", "crewWebhookUrl": "no address"}
    )
    await sandbox_client.later(2)
    while None in (errors := [note["error"] for note in (await sandbox_client.ledger())["webhooks"]]):
        pass
    assert errors == ["ClientConnectorError"] * 3 + ["InvalidUrlClientError"]
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]


async def test_without_webhooks_there_is_one_task_for_any_number_of_runs(start: Start) -> None:
    sandbox_client = await start()
    before = len(asyncio.all_tasks())
    for _ in range(20):
        await sandbox_client.kickoff()
    assert len(asyncio.all_tasks()) <= before + 2  # the client's connection, and no more for more runs
