"""Webhooks with questions of flows: verification, and an immediate response."""

import asyncio
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import structlog

from bridge.adapters.http import auth
from bridge.adapters.http.auth import Clients
from bridge.adapters.http.server import HttpServer, build_servers
from bridge.adapters.http.webhooks.flow import FlowQuestionsApi, FlowSource
from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.errors import StoreUnavailable
from bridge.core.http.limits import Rate
from tests.fakes import NOW
from tests.http_client import LISTEN, problem

BURST = 20
SECRET = "shared-with-the-deployment"
QUESTION = {
    "id": "q-1",
    "flow_id": "k-1",
    "output": "A or B?",
    "emit": ["a"],
    "callback_url": "https://crew.example/?token=t",
}


class QuestionRecorder:
    def __init__(self) -> None:
        self.questions: list[tuple[str, FlowQuestion]] = []
        self.fail: Exception | None = None

    async def __call__(self, crew: str, question: FlowQuestion) -> None:
        if self.fail is not None:
            raise self.fail
        self.questions.append((crew, question))


@pytest.fixture
def recorder() -> QuestionRecorder:
    return QuestionRecorder()


@pytest.fixture
async def server(recorder: QuestionRecorder, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpServer]:
    monkeypatch.setattr(auth, "FAILED_LOGIN_RATE", Rate(per_second=0.001, burst=BURST))
    api = FlowQuestionsApi({"triage": FlowSource("https://crew.example", False, [SECRET])}, recorder, lambda: NOW)
    [built] = build_servers(LISTEN, api.routes(), [], Clients())
    await built.start()
    serving = asyncio.create_task(built.run())
    yield built
    built.stop()
    await serving


async def send(server: HttpServer, body: bytes, crew: str = "triage", secret: str = SECRET) -> aiohttp.ClientResponse:
    timestamp = str(int(NOW))
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"X-CrewAI-Signature": f"sha256={digest}", "X-CrewAI-Timestamp": timestamp}
    url = f"http://127.0.0.1:{server.port}/amp/crews/{crew}/human"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        await response.read()
        return response


async def test_a_question_is_accepted_and_acknowledged_at_once(server: HttpServer, recorder: QuestionRecorder):
    assert (await send(server, json.dumps(QUESTION).encode())).status == 204
    [(crew, question)] = recorder.questions
    assert (crew, question.kickoff_id, question.content.output) == ("triage", "k-1", "A or B?")


@pytest.mark.parametrize(("crew", "secret", "status"), [("triage", "wrong", 401), ("research", SECRET, 404)])
async def test_without_a_signature_nothing_is_accepted(
    server: HttpServer, recorder: QuestionRecorder, crew: str, secret: str, status: int
):
    assert (await send(server, json.dumps(QUESTION).encode(), crew, secret)).status == status
    assert recorder.questions == []


async def test_a_wrong_signature_is_logged_with_crew_and_address(server: HttpServer):
    with structlog.testing.capture_logs() as lines:
        await send(server, json.dumps(QUESTION).encode(), secret="wrong")
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert line == {
        "event": "flow_question_verification_failed",
        "crew": "triage",
        "address": "127.0.0.1",
        "log_level": "warning",
    }


async def test_callers_without_a_signature_are_rate_limited_and_the_deployment_is_not(server: HttpServer):
    statuses = [(await send(server, b"{}", secret="wrong")).status for _ in range(BURST + 1)]
    assert statuses == [401] * BURST + [429]
    assert (await send(server, json.dumps(QUESTION).encode())).status == 204


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"flow_id": "../x"}'])
async def test_a_signed_body_that_is_not_a_question_is_acknowledged(
    server: HttpServer, recorder: QuestionRecorder, body: bytes
):
    assert (await send(server, body)).status == 204
    assert recorder.questions == []


async def test_nothing_is_decompressed_before_the_signature_is_verified(server: HttpServer, recorder: QuestionRecorder):
    url = f"http://127.0.0.1:{server.port}/amp/crews/triage/human"
    async with aiohttp.request(
        "POST", url, data=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}
    ) as response:
        await problem(response, 415, "unsupported_media_type")
    assert recorder.questions == []


async def test_a_question_with_an_unusable_callback_url_is_logged(server: HttpServer, recorder: QuestionRecorder):
    with structlog.testing.capture_logs() as lines:
        await send(server, json.dumps(QUESTION | {"callback_url": "https://other.example"}).encode())
        await send(server, json.dumps(QUESTION).encode())
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["flow_callback_url_rejected"]
    assert [question.content.callback_url for _, question in recorder.questions] == [None, QUESTION["callback_url"]]


async def test_a_question_that_cannot_be_stored_is_not_acknowledged(server: HttpServer, recorder: QuestionRecorder):
    recorder.fail = StoreUnavailable("disk full")
    await problem(await send(server, json.dumps(QUESTION).encode()), 503, "service_unavailable")
