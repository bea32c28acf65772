"""Requests to the crew API, checked against its published OpenAPI document by a mock server.

The document cannot be distributed with the bridge, so these tests run only if BRIDGE_TEST_CREW_MOCK names such a
server,
for example `prism mock -p 4010 enterprise-api.en.yaml` with BRIDGE_TEST_CREW_MOCK=http://127.0.0.1:4010. (Without
`--errors`: the document's own example of a kickoff id violates its schema.)
"""

import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.adapters.crew_api import HttpCrewApi, crew_sessions
from bridge.core.crew.payloads import Webhooks, kickoff_body, resume_body
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import Refused, Resumed, Running, Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input.model import HumanInput, Question, QuestionContent, QuestionStage
from tests.fakes import NOW, a_run

MOCK = os.environ.get("BRIDGE_TEST_CREW_MOCK", "")
WEBHOOKS = Webhooks("https://bridge.example.com", b"k" * 32)
INPUTS = {"topic": "größe", "pages": 3, "draft": True, "parts": ["a", {"b": None}], "nothing": None}

pytestmark = pytest.mark.skipif(not MOCK, reason="needs BRIDGE_TEST_CREW_MOCK, a mock server of the crew API")


@pytest.fixture
async def crew() -> AsyncIterator[HttpCrewApi]:
    async with crew_sessions() as sessions:
        yield HttpCrewApi(MOCK, "any-token", RateLimiter(), sessions, time.time)


@pytest.mark.parametrize("webhooks", [None, WEBHOOKS], ids=["polling alone", "with webhooks"])
@pytest.mark.parametrize("inputs", [{}, INPUTS], ids=["no inputs", "inputs of every type"])
async def test_a_kickoff_is_valid(crew: HttpCrewApi, webhooks: Webhooks | None, inputs: dict[str, Any]):
    run = a_run(inputs=inputs, meta={"order": 7, "tags": ["x"]})
    result = await crew.kickoff(kickoff_body(run, CrewPolicy(), webhooks))
    assert isinstance(result, Started), result


@pytest.mark.parametrize("webhooks", [None, WEBHOOKS], ids=["polling alone", "with webhooks"])
@pytest.mark.parametrize("approve", [True, False])
async def test_an_answer_is_valid(crew: HttpCrewApi, webhooks: Webhooks | None, approve: bool):
    content = QuestionContent("9d6d6a0e-1c6b-4f0a-8a34-2f5e7f1c4b90")
    question = Question(1, NOW, content=content, stage=QuestionStage.SENT, feedback="Approved.", approve=approve)
    run = replace(
        a_run(), attempt=1, kickoff_id="3f0c2a52-7a0e-4d58-9a55-0d2c8e5b7c11", human_input=HumanInput(question)
    )
    result = await crew.resume(resume_body(run, webhooks))
    assert isinstance(result, Resumed), result


async def test_a_poll_is_valid(crew: HttpCrewApi):
    result = await crew.status("3f0c2a52-7a0e-4d58-9a55-0d2c8e5b7c11")
    assert result == Running({"completed_tasks": 1, "total_tasks": 3})


async def test_the_probe_and_the_request_for_inputs_are_valid(crew: HttpCrewApi):
    assert (await crew.probe()).ok
    assert await crew.inputs()


async def test_the_mock_checks_requests(crew: HttpCrewApi):
    """Otherwise the tests above prove nothing."""
    assert isinstance(await crew.kickoff({"input": {"topic": "not wrapped"}}), Refused)
