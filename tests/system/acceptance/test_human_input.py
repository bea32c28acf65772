"""Human input, with the real process, a real broker, and a sandbox that asks."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import DEAD, Daemon, channel, drain, eventually, free_port, ledger

SECRET = "shared-with-the-deployment"


@asynccontextmanager
async def bridge_and_crew(
    folder: Path, amqp: str, sandbox: dict[str, Any], **crew: Any
) -> AsyncIterator[tuple[Daemon, str]]:
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    if sandbox.get("kind") == "flow":
        sandbox |= {"flow_hitl_url": f"{own}/amp/crews/research/human", "flow_hitl_secret": crew["human"]["secret"]}
    settings = SandboxSettings(run_time=parse_run_time("fixed:1.5"), inputs=("n",), **sandbox)
    async with running(settings) as crew_url:
        daemon = Daemon(folder, crew_url, crew, port=port, amqp={"url": amqp}, public_url=own)
        await daemon.start()
        try:
            yield daemon, crew_url
        finally:
            await daemon.close()


async def submit(daemon: Daemon) -> str:
    async with aiohttp.ClientSession() as session:
        body = {"crew": "research", "inputs": {"n": "1"}}
        async with session.post(f"{daemon.url}/v1/runs", json=body) as response:
            run_id: str = (await response.json())["run_id"]
            return run_id


async def question(daemon: Daemon, run_id: str, number: int) -> dict[str, Any]:
    """The run's question with this number, as soon as it waits for an answer."""
    found: dict[str, Any] = {}

    async def met() -> bool:
        _, run = await daemon.get(f"/v1/runs/{run_id}")
        found.update(run)
        return bool(run["state"] == "waiting_for_human" and run["question"]["number"] == number)

    await eventually(met, f"question {number}")
    asked: dict[str, Any] = found["question"]
    return asked


async def answer_by_http(daemon: Daemon, run_id: str, answer: dict[str, Any]) -> int:
    where = f"{daemon.url}/v1/runs/{run_id}/resume"
    async with aiohttp.ClientSession() as session, session.post(where, json=answer) as response:
        return response.status


async def answer_by_queue(amqp: str, run_id: str, answer: dict[str, Any], copies: int) -> None:
    async with channel(amqp) as ch:
        exchange = await ch.get_exchange("kickoff.requests")
        message = aio_pika.Message(json.dumps({"run_id": run_id, **answer}).encode(), type="resume")
        await asyncio.gather(*(exchange.publish(message, "research") for _ in range(copies)))


async def ended(daemon: Daemon, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def met() -> bool:
        found.update((await daemon.get(f"/v1/runs/{run_id}"))[1])
        return found["finished_at"] is not None

    await eventually(met, "the run has ended")
    return found


async def dead_reasons(amqp: str) -> list[str]:
    reasons = []
    async with channel(amqp) as ch:
        queue = await ch.declare_queue(DEAD, passive=True)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            reasons.append(str(message.headers["x-bridge-reason"]))
    return reasons


async def test_two_questions_answered_three_times_concurrently_over_http_and_amqp_are_resumed_once_each(
    tmp_path: Path, amqp: str, record_property: Callable[[str, object], None]
) -> None:
    async with bridge_and_crew(tmp_path, amqp, {"human_questions": 2}) as (daemon, crew_url):
        run_id = await submit(daemon)
        for number in (1, 2):
            asked = await question(daemon, run_id, number)
            answer = {"approve": True, "feedback": "fine", "task_id": asked["task_id"]}
            by_http = (answer_by_http(daemon, run_id, answer) for _ in range(3))
            *statuses, _ = await asyncio.gather(*by_http, answer_by_queue(amqp, run_id, answer, 3))
            record_property(f"http_{number}", statuses)
            assert set(statuses) <= {200, 409}
        run = await ended(daemon, run_id)
        results = await drain(amqp, 3)
        found = await ledger(crew_url)

        assert run["state"] == "succeeded"
        assert [note["effect"] for note in found["resumes"]] == ["continued", "continued"]
        assert len({note["body"]["taskId"] for note in found["resumes"]}) == 2
        assert results.final_events() == {run_id: ["run.succeeded"]}
        assert sorted(results.bodies) == [f"{run_id}-{kind}" for kind in (
            "succeeded", "waiting_for_human", "waiting_for_human-2",
        )]  # fmt: skip
        assert results.duplicates == 0
        assert found["started"] == 1


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("hex", "whsec_00112233445566778899aabbccddeeff"),
        pytest.param("text", SECRET, marks=pytest.mark.nightly),
    ],
)
async def test_a_flow_question_is_answered_once_and_its_callback_url_is_secret(
    tmp_path: Path, amqp: str, key: str, secret: str
) -> None:
    sandbox: dict[str, Any] = {"kind": "flow", "human_questions": 1, "flow_hitl_key": key}
    async with bridge_and_crew(tmp_path, amqp, sandbox, kind="flow", human={"secret": secret}) as (daemon, crew_url):
        run_id = await submit(daemon)
        asked = await question(daemon, run_id, 1)
        answer = {"feedback": "Approved"}
        by_http = (answer_by_http(daemon, run_id, answer) for _ in range(3))
        await asyncio.gather(*by_http, answer_by_queue(amqp, run_id, answer, 3))
        run = await ended(daemon, run_id)
        results = await drain(amqp, 2)
        found = await ledger(crew_url)

        assert asked["options"] == ["approved", "rejected"]
        assert [note["body"] for note in found["flow_responses"]] == [
            {"feedback": "approved", "source": "kickoff-bridge"}
        ]
        assert (run["state"], found["resumes"]) == ("succeeded", [])
        assert results.final_events() == {run_id: ["run.succeeded"]}
        text = json.dumps(run) + daemon.log() + "".join(str(body) for body in results.bodies.values())
        assert "token=" not in text
        assert "human_feedback_requests" not in text


async def test_a_message_commands_a_run_by_the_key_of_its_request(tmp_path: Path, amqp: str) -> None:
    async with bridge_and_crew(tmp_path, amqp, {"human_questions": 1}) as (daemon, _):
        async with channel(amqp) as ch:
            exchange = await ch.get_exchange("kickoff.requests")
            request = aio_pika.Message(b'{"inputs": {"n": "1"}}', message_id="order-1")
            await exchange.publish(request, "research")

            async def stored() -> bool:
                return len(await daemon.all_runs()) == 1

            await eventually(stored, "the run is stored")
            [run] = await daemon.all_runs()
            await question(daemon, run["run_id"], 1)
            cancel = aio_pika.Message(b'{"idempotency_key": "order-1"}', type="cancel")
            late = aio_pika.Message(b'{"idempotency_key": "order-1", "approve": true}', type="resume")
            unknown = aio_pika.Message(b'{"run_id": "nobody"}', type="cancel")
            await exchange.publish(cancel, "research")
            assert (await ended(daemon, run["run_id"]))["state"] == "cancelled"
            for message in (late, unknown):
                await exchange.publish(message, "research")

        reasons: list[str] = []

        async def refused() -> bool:
            reasons.extend(await dead_reasons(amqp))
            return len(reasons) == 2

        await eventually(refused, "two messages are refused")
        assert sorted(reasons) == ["not_waiting", "unknown_run"]
