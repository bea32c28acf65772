"""Parsing of the crew API's webhooks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.crew.responses import NoResponse, NotFound, Running, Succeeded
from bridge.core.crew.webhooks import (
    MAX_TASK_NAME,
    CrewWebhook,
    Kind,
    TasksDone,
    add_task,
    read,
    shorten,
    with_task_progress,
    with_webhook_result,
)
from bridge.core.human_input.model import QuestionContent
from tests import crew_events

TESTS = Path(crew_events.__file__).parent
CAPTURED_ID = "00000000-0000-4000-8000-000000000002"
CHILD_STATE_ID = "00000000-0000-4000-8000-000000000007"
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def streamed(type_: str, execution_id: str = "k-1", **data: Any) -> dict[str, Any]:
    return {"id": "e", "execution_id": execution_id, "timestamp": "t", "type": type_, "data": data}


@pytest.mark.parametrize("kind", list(Kind))
@given(body=JSON)
def test_any_body_is_accepted(kind: Kind, body: Any):
    assert isinstance(read(kind, body), CrewWebhook)


def test_a_crew_webhook_has_the_result_and_causes_a_poll():
    body = {"kickoff_id": "k-1", "result": '{"n": 1}', "result_json": {"n": 1}, "token_usage": {"total_tokens": 5}}
    assert read(Kind.CREW, body) == CrewWebhook(
        "k-1", ended=True, webhook_result=Succeeded('{"n": 1}', {"n": 1}, {"total_tokens": 5})
    )


def test_a_crew_webhook_without_a_result_causes_a_poll():
    assert read(Kind.CREW, {"kickoff_id": "k-1"}) == CrewWebhook("k-1", ended=True)
    assert read(Kind.CREW, None) == CrewWebhook(ended=True)


def test_a_stream_that_cannot_be_read_may_contain_the_end():
    assert read(Kind.STREAM, None) == CrewWebhook(ended=True)


@pytest.mark.parametrize(
    ("kind", "beginning", "kept"),
    [
        (Kind.CREW, {"kickoff_id": "k-1", "result": "the whole text", "result_json": {"n": 1}}, {"kickoff_id": "k-1"}),
        (Kind.CREW, {"result": "the whole text"}, None),
        (Kind.TASK, {"name": "collect", "output_json": {"n": 1}}, {"name": "collect"}),
        (Kind.STREAM, {"events": [{"type": "flow_finished"}]}, {"events": [{"type": "flow_finished"}]}),
        (Kind.STREAM, {}, None),
    ],
)
def test_of_the_beginning_of_a_webhook_only_what_is_complete_is_kept(kind: Kind, beginning: Any, kept: Any):
    assert shorten(kind, beginning) == kept


def test_a_step_webhook_names_only_the_execution():
    assert read(Kind.STEP, {"kickoff_id": "k-1", "output": "x"}) == CrewWebhook("k-1")


def test_a_task_webhook_names_the_finished_task():
    assert read(Kind.TASK, {"kickoff_id": "k-1", "name": "collect"}) == CrewWebhook("k-1", task="collect")
    assert read(Kind.TASK, {"kickoff_id": "k-1", "name": 7}) == CrewWebhook("k-1", task="a task")


@pytest.mark.parametrize(
    "body",
    [
        {"kickoff_id": "k-1", "task_id": "t", "task_output": "Approve?"},
        {"execution_id": "k-1", "task_id": "t", "output": "Approve?"},
        {"executionId": "k-1", "taskId": "t", "taskOutput": "Approve?"},
        {"data": {"kickoff_id": "k-1", "task_id": "t", "task_output": "Approve?"}},
        {"kickoffId": "k-1", "payload": {"task_id": "t", "output": "Approve?"}},
        {"execution_id": "k-1", "callback_info": {"taskId": "t"}, "body": {"output": "Approve?"}},
    ],
)
def test_a_question_is_read_in_every_known_format(body: Any):
    assert read(Kind.HUMAN, body) == CrewWebhook("k-1", question=QuestionContent("t", "Approve?"))


def test_task_id_of_an_old_webhook_is_not_a_task():
    assert read(Kind.HUMAN, {"kickoff_id": "k-1", "task_id": "k-1"}).question == QuestionContent()


def test_the_content_of_a_question_can_be_stored():
    question = read(Kind.HUMAN, {"task_output": "a\x00b\ud800" + "x" * 100_000}).question
    assert question is not None
    assert question.output is not None
    assert (question.output[:3], len(question.output)) == ("ab?", 65_535)


@pytest.mark.parametrize("response", [Running({"completed": 1}), NotFound()])
def test_the_progress_of_the_status_takes_precedence(response: Any):
    assert with_task_progress(response, TasksDone(1, "collect"), None) is response


def test_without_progress_in_the_status_finished_tasks_are_counted():
    reported = {"unit": "task", "completed": 2, "total": None, "current": None, "last": "draft"}
    done = add_task(add_task(None, "collect", stored=1), "draft", stored=2)
    assert with_task_progress(Running(), done, None) == with_task_progress(Running(), done, 1) == Running(reported)
    assert with_task_progress(Running(), None, None) == Running()


def test_lost_task_webhooks_do_not_set_the_progress_back():
    assert with_task_progress(Running(), TasksDone(1, "verdict"), 2) == Running()


def test_tasks_from_before_a_restart_are_counted():
    assert add_task(None, "verdict", stored=3) == TasksDone(3, "verdict")
    assert add_task(TasksDone(60, "draft"), "verdict", stored=50) == TasksDone(61, "verdict")


def test_a_long_task_name_is_shortened():
    assert read(Kind.TASK, {"name": "x" * 60_000}).task == "x" * MAX_TASK_NAME


@pytest.mark.parametrize("value", ["", "a/b", "x" * 129, 7, None, ["k"]])
def test_an_invalid_id_is_none(value: Any):
    assert read(Kind.STEP, {"kickoff_id": value}) == CrewWebhook()


@pytest.mark.parametrize("shape", [lambda e: {"events": e}, lambda e: e, lambda e: e[0]])
def test_a_stream_is_read_in_three_formats(shape: Any):
    event = streamed("crew_kickoff_started", emission_sequence=1, parent_event_id=None)
    assert read(Kind.STREAM, shape([event])) == CrewWebhook("k-1")


def test_the_lowest_number_of_a_batch_names_the_execution():
    inner = streamed("crew_kickoff_started", "inner", emission_sequence=4)
    outer = streamed("flow_started", "k-1", emission_sequence=1)
    assert read(Kind.STREAM, {"events": [inner, outer]}) == CrewWebhook("k-1", certain=False)


def test_a_batch_without_a_start_event_names_no_execution():
    events = [
        streamed("task_completed", emission_sequence=5),
        streamed("crew_kickoff_started", "inner", emission_sequence=6),
    ]
    assert read(Kind.STREAM, {"events": events}) == CrewWebhook()


@pytest.mark.parametrize("type_", ["crew_kickoff_failed", "crew_kickoff_completed", "flow_finished", "flow_failed"])
def test_a_completion_event_names_the_execution_and_causes_a_poll(type_: str):
    assert read(Kind.STREAM, {"events": [streamed(type_)]}) == CrewWebhook("k-1", certain=False, ended=True)


@pytest.mark.parametrize("name", ["AgentExecutor", "RecallFlow", "EncodingFlow"])
def test_the_end_of_an_inner_flow_is_not_the_end_of_the_run(name: str):
    assert read(Kind.STREAM, {"events": [streamed("flow_finished", flow_name=name)]}) == CrewWebhook()


def test_the_end_of_a_crew_inside_a_flow_is_not_the_end_of_the_run():
    event = streamed("crew_kickoff_completed", "inner")
    assert read(Kind.STREAM, event, is_flow=True) == CrewWebhook()
    assert read(Kind.STREAM, event) == CrewWebhook("inner", certain=False, ended=True)


def test_an_inner_execution_in_a_thread_has_no_parent_but_is_told_by_its_type():
    """A crew starts no flow around itself, and a flow no crew; a crew may be deployed as another kind than known."""
    crew, flow = crew_events.crew_with_memory("k-1")[0], crew_events.flow_with_crew("k-1")[0]
    assert read(Kind.STREAM, crew, is_flow=True) == read(Kind.STREAM, flow, is_flow=False) == CrewWebhook()
    assert read(Kind.STREAM, crew, is_flow=False) == read(Kind.STREAM, crew) == CrewWebhook("k-1")
    assert read(Kind.STREAM, flow, is_flow=True) == read(Kind.STREAM, flow) == CrewWebhook("k-1")


def test_only_a_start_with_a_known_parent_names_the_execution_with_certainty():
    """Older libraries report no parent; in a thread, a child flow has none; after a pause, a flow has another id."""
    crew, (start, *_, end) = crew_events.crew_with_memory("k-1")[0], crew_events.flow_with_crew("k-1")
    old = crew | {"data": {"crew_name": "TideCrew"}}
    child = start | {"data": start["data"] | {"inputs": {"topic": "tides"}}}
    assert read(Kind.STREAM, old) == read(Kind.STREAM, child) == CrewWebhook("k-1", certain=False)
    assert read(Kind.STREAM, end) == CrewWebhook("k-1", certain=False, ended=True)
    assert read(Kind.STREAM, [child | {"execution_id": "inner"}, start]) == CrewWebhook("k-1")


def test_only_events_without_a_parent_are_about_the_execution_itself():
    """A child flow, and a crew inside a flow, have any name."""
    for event in (*crew_events.flow_with_crew("k-1", inner="inner"), *crew_events.crew_with_memory("k-1", "inner")):
        is_outer = event["data"]["parent_event_id"] is None
        webhook, ended = read(Kind.STREAM, {"events": [event]}), "start" not in event["type"]
        assert webhook == (CrewWebhook("k-1", certain=not ended, ended=ended) if is_outer else CrewWebhook())
        assert read(Kind.STREAM, {"events": [event | {"data": event["data"] | {"flow_name": "MyFlow"}}]}) == webhook


@pytest.mark.parametrize(
    ("captured", "expected"),
    [
        (
            "flow_with_inner_crew",
            [CrewWebhook(CAPTURED_ID), *[CrewWebhook()] * 5, CrewWebhook(CAPTURED_ID, False, ended=True)],
        ),
        (
            "flow_with_threads",
            [
                CrewWebhook(CAPTURED_ID), CrewWebhook(CAPTURED_ID, False), CrewWebhook(),
                CrewWebhook(CHILD_STATE_ID, False, ended=True), CrewWebhook(),
                CrewWebhook(CAPTURED_ID, False, ended=True),
            ],
        ),
        (
            "flow_paused_and_resumed",
            [
                CrewWebhook(CAPTURED_ID), CrewWebhook(), CrewWebhook(resumed=True),
                CrewWebhook(CAPTURED_ID, False, ended=True),
            ],
        ),
        ("flow_failed", [CrewWebhook(CAPTURED_ID), CrewWebhook(CAPTURED_ID, False, ended=True)]),
        (
            "crew_with_memory",
            [CrewWebhook(CAPTURED_ID), *[CrewWebhook()] * 12, CrewWebhook(CAPTURED_ID, False, ended=True)],
        ),
    ],
)  # fmt: skip
def test_the_events_of_a_real_execution_are_read(captured: str, expected: list[CrewWebhook]):
    events = json.loads((TESTS / "captured" / f"stream_{captured}.json").read_text("utf-8"))["body"]["events"]
    is_flow = captured != "crew_with_memory"
    assert [read(Kind.STREAM, {"events": [event]}, is_flow=is_flow) for event in events] == expected


@pytest.mark.parametrize(
    ("webhook", "expected"),
    [
        (CrewWebhook("k-1", task="collect"), False),
        (CrewWebhook(ended=True), True),
        (CrewWebhook(resumed=True), True),
        (CrewWebhook(question=QuestionContent()), True),
    ],
)
def test_the_status_may_have_changed_after_an_end_a_resume_or_a_question(webhook: CrewWebhook, *, expected: bool):
    assert webhook.poll_now is expected


def test_the_first_event_of_the_execution_itself_names_it():
    events = [*crew_events.flow_with_crew("k-1", inner="inner"), *crew_events.failing_flow("k-2")]
    events[-2]["data"]["emission_sequence"] = 3
    assert read(Kind.STREAM, events[::-1]) == CrewWebhook("k-1", ended=True)


def test_a_flow_that_continues_after_a_pause_is_named_by_its_state():
    start, paused, resumed, end = crew_events.flow_with_pause("k-1")
    webhooks = [read(Kind.STREAM, event) for event in (start, paused, resumed, end)]
    assert webhooks == [
        CrewWebhook("k-1"), CrewWebhook(), CrewWebhook(resumed=True), CrewWebhook("k-1", False, ended=True),
    ]  # fmt: skip
    assert read(Kind.STREAM, [end, resumed, paused, start]) == CrewWebhook("k-1", ended=True, resumed=True)


def test_a_state_id_from_the_request_is_not_the_id_of_the_execution():
    """After a pause, the `execution_id` of the end is not the kickoff id either."""
    start, *_, end = crew_events.flow_with_crew("k-1")
    own = start["data"]["inputs"]["id"] = end["data"]["state"]["id"] = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
    assert read(Kind.STREAM, start, state_id=own) == CrewWebhook("k-1")
    assert read(Kind.STREAM, end, state_id=own) == CrewWebhook("k-1", certain=False, ended=True)


def test_an_input_of_a_crew_that_is_named_id_is_not_the_id_of_the_execution():
    start = crew_events.crew_with_memory("k-1")[0]
    start["data"]["inputs"]["id"] = "order-17"
    assert read(Kind.STREAM, start) == CrewWebhook("k-1")


def test_a_crew_webhook_is_accepted_as_the_end_only_after_repeated_not_found():
    webhook_result = Succeeded("said")
    assert with_webhook_result(Running(), webhook_result, long_missing=True) == Running()
    assert with_webhook_result(NotFound(), webhook_result, long_missing=True) is webhook_result
    assert with_webhook_result(NotFound(), webhook_result, long_missing=False) == NotFound()
    assert with_webhook_result(NoResponse("HTTP 500"), webhook_result, long_missing=True) == NoResponse("HTTP 500")


def test_a_task_id_is_not_an_execution_id():
    """Payloads of 2025 named the execution `task_id`; today that is another id, and using it would lose the run."""
    assert read(Kind.STEP, {"description": "x", "task_id": "3f0c2a52"}) == CrewWebhook()
