"""Bodies of `POST /kickoff` and of answers."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.crew import webhook_tokens
from bridge.core.crew import webhooks as crew_webhooks
from bridge.core.crew.payloads import Webhooks, kickoff_body, resume_body
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input.model import HumanInput, Question, QuestionContent, QuestionStage
from bridge.core.runs.model import RestoreFrom
from tests.fakes import NOW, a_run, run_id

CREW = CrewPolicy()
FLOW = CrewPolicy(is_flow=True)
WEBHOOKS = Webhooks("https://bridge.example", b"k" * 32)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("peat", "peat"),
        ("", ""),
        ("true", "true"),
        (3, "3"),
        (2.5, "2.5"),
        (True, "true"),
        (None, "null"),
        (["a", 1], '["a", 1]'),
        ({"größe": "🦉"}, '{"größe": "🦉"}'),
        (2**70, str(2**70)),
    ],
)
def test_a_crew_receives_inputs_as_text_and_a_flow_receives_json_values(value: Any, text: str):
    run = a_run(inputs={"x": value})
    assert kickoff_body(run, CREW)["inputs"] == {"x": text}
    assert kickoff_body(run, FLOW)["inputs"] == {"x": value}


@pytest.mark.parametrize("policy", [CREW, FLOW])
def test_inputs_are_wrapped_even_when_empty(policy: CrewPolicy):
    assert kickoff_body(a_run(inputs={}), policy)["inputs"] == {}


def test_bridge_ids_are_added_to_meta_and_override_the_producers_values():
    run = replace(a_run(meta={"order": 17, "bridge_run_id": "forged"}), attempt=2)
    bridge = {"bridge_run_id": run_id(1), "bridge_attempt": 2}
    assert kickoff_body(run, CREW)["meta"] == {"order": 17} | bridge
    assert (
        kickoff_body(run, CREW, traceparent="00-1-2-01")["meta"] == {"order": 17, "traceparent": "00-1-2-01"} | bridge
    )


def test_only_inputs_and_meta_are_sent():
    body = kickoff_body(a_run(inputs={"topic": "peat"}), CREW)
    assert set(body) == {"inputs", "meta"}
    assert body["inputs"] == {"topic": "peat"}


def test_only_the_state_of_the_run_that_is_asked_for_is_restored():
    run = a_run(inputs={"topic": "peat"}, restore_from=RestoreFrom(run_id="r-1", state_id="k-0"))
    assert kickoff_body(run, CREW)["restoreFromStateId"] == "k-0"
    assert kickoff_body(run, CREW)["inputs"] == {"topic": "peat"}, "the input `id` is never added"


def test_each_webhook_url_names_its_kind_and_attempt():
    run = replace(a_run(), attempt=2)
    body = kickoff_body(run, CREW, WEBHOOKS)
    urls = {"crew": body["crewWebhookUrl"], "task": body["taskWebhookUrl"], "human": body["humanInputWebhookUrl"]}
    urls["stream"] = body["webhooks"]["url"]
    for kind, url in urls.items():
        *base, token, last = url.split("/")
        assert ("/".join(base), last) == ("https://bridge.example/amp", kind)
        assert webhook_tokens.read(WEBHOOKS.key, token) == webhook_tokens.Attempt(run.run_id, 2)


def test_only_stream_events_that_the_bridge_reads_are_requested():
    events = kickoff_body(a_run(), CREW, WEBHOOKS)["webhooks"]["events"]
    assert events
    for event in events:
        assert (
            crew_webhooks.read(crew_webhooks.Kind.STREAM, {"type": event, "execution_id": "k-1"})
            != crew_webhooks.CrewWebhook()
        )


def test_stream_events_are_requested_one_by_one():
    """In a batch, the start event arrives together with the end: too late to find a lost execution."""
    assert kickoff_body(a_run(), CREW, WEBHOOKS)["webhooks"]["realtime"] is True


def test_webhooks_change_neither_inputs_nor_meta():
    plain, with_webhooks = kickoff_body(a_run(), CREW), kickoff_body(a_run(), CREW, WEBHOOKS)
    assert {name: with_webhooks[name] for name in plain} == plain


def test_an_answer_names_the_first_execution_and_the_task_in_both_spellings():
    question = Question(
        1, NOW, content=QuestionContent("t-1"), stage=QuestionStage.SENT, feedback="Approved.", approve=True
    )
    run = replace(a_run(), kickoff_id="k-1", human_input=HumanInput(question, aliases=("a-1",)))
    assert resume_body(run) == {
        "executionId": "k-1", "execution_id": "k-1", "taskId": "t-1", "task_id": "t-1",
        "humanFeedback": "Approved.", "human_feedback": "Approved.", "isApprove": True, "is_approve": True,
    }  # fmt: skip


def test_an_answer_registers_every_webhook_again():
    run = replace(a_run(), kickoff_id="k-1", attempt=1, human_input=HumanInput(Question(1, NOW, feedback="x")))
    webhooks = Webhooks("https://bridge.example.com", b"k" * 32)
    asked_for = kickoff_body(run, CrewPolicy(), webhooks).keys() - {"inputs", "meta"}
    assert "humanInputWebhookUrl" in asked_for
    assert asked_for <= resume_body(run, webhooks).keys()
