"""What a real crew does and a tidy stand-in would not: long names, long errors, huge results, a late status."""

import json
from typing import Any

import pytest

from .conftest import Receiver, Start
from .test_stream import CREW, events_of, stream

ERROR = "ValidationError: 2 errors\n  topic\n    Field required\n"
USAGE = {
    "total_tokens", "prompt_tokens", "cached_prompt_tokens", "completion_tokens", "reasoning_tokens",
    "cache_creation_tokens", "successful_requests",
}  # fmt: skip


async def test_the_usage_has_the_members_of_the_library(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with({"crewWebhookUrl": f"{receiver.url}/crew"})
    await sandbox_client.later(2)
    assert set((await sandbox_client.status(kickoff_id))["usage_metrics"]) == USAGE
    assert set((await receiver.one()).body["token_usage"]) == USAGE


async def test_a_task_without_a_name_is_called_by_its_description(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    hook = {"taskWebhookUrl": f"{receiver.url}/task"}
    kickoff_id = await sandbox_client.kickoff_with(hook, sandbox_unnamed_tasks=True)
    current = (await sandbox_client.status(kickoff_id))["progress"]["current"]
    assert current.startswith("The collect_task of the sandbox.\n\n")
    await sandbox_client.later(2)
    body = (await receiver.one()).body
    assert body["name"] == body["description"] == current


async def test_an_error_can_have_several_lines(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, CREW), sandbox_error=ERROR)
    await sandbox_client.later(2)
    status = await sandbox_client.status(kickoff_id)
    assert (status["state"], status["status"]) == ("FAILED", ERROR)
    failed = (await events_of(sandbox_client, receiver))[-1]
    assert failed["data"]["error"] == ERROR.removeprefix("ValidationError: ")


@pytest.mark.parametrize(("kind", "member"), [("crew", "result"), ("flow", "result_json")])
async def test_a_result_can_have_many_megabytes(start: Start, kind: str, member: str) -> None:
    sandbox_client = await start(kind=kind)
    kickoff_id = await sandbox_client.kickoff(sandbox_result_bytes=3_000_000)
    sandbox_client.clock.forward(2)
    async with sandbox_client.call("GET", f"/status/{kickoff_id}") as response:
        raw = await response.read()
    result: Any = json.loads(raw)[member]
    text = result if kind == "crew" else result["summary"]
    assert 3_000_000 <= len(text) < 3_000_100
    assert len(raw) > 6_000_000  # it is repeated, and its quotes and line breaks are escaped


async def test_the_status_can_be_later_than_the_events(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(status_lag=0.5)
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, CREW))
    assert await sandbox_client.states(kickoff_id) == ["STARTED"]
    await sandbox_client.later(2)
    assert (await events_of(sandbox_client, receiver))[-1]["type"] == "crew_kickoff_completed"
    assert await sandbox_client.states(kickoff_id) == ["RUNNING"]
    assert (await sandbox_client.ledger())["kickoffs"][0]["end_seen_at"] is None
    sandbox_client.clock.forward(0.5)
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]
    assert (await sandbox_client.ledger())["kickoffs"][0]["end_seen_at"] == sandbox_client.clock.moment


@pytest.mark.parametrize("code", [402, 408, 425, 451])
async def test_a_kickoff_can_be_refused_with_any_code(start: Start, code: int) -> None:
    sandbox_client = await start()
    detail = {"detail": "Payment Required"}
    await sandbox_client.inject({"on": "kickoff", "do": "http", "code": code, "body": detail})
    assert await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {"topic": "x"}}) == (code, detail)
    assert (await sandbox_client.ledger())["started"] == 0
