"""What webhooks of the crew API are read as."""

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
    with_task_progress,
    with_webhook_result,
)
from bridge.core.human_input.model import QuestionContent

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def streamed(type_: str, execution_id: str = "k-1", **data: Any) -> dict[str, Any]:
    return {"id": "e", "execution_id": execution_id, "timestamp": "t", "type": type_, "data": data}


@pytest.mark.parametrize("kind", list(Kind))
@given(body=JSON)
def test_any_body_is_read(kind: Kind, body: Any):
    assert isinstance(read(kind, body), CrewWebhook)


def test_a_crew_webhook_carries_the_result_and_is_worth_a_look():
    body = {"kickoff_id": "k-1", "result": '{"n": 1}', "result_json": {"n": 1}, "token_usage": {"total_tokens": 5}}
    assert read(Kind.CREW, body) == CrewWebhook(
        "k-1", poll_now=True, webhook_result=Succeeded('{"n": 1}', {"n": 1}, {"total_tokens": 5})
    )


def test_a_crew_webhook_without_a_result_is_still_worth_a_look():
    assert read(Kind.CREW, {"kickoff_id": "k-1"}) == CrewWebhook("k-1", poll_now=True)
    assert read(Kind.CREW, None) == CrewWebhook(poll_now=True)


def test_a_step_names_the_execution_and_no_more():
    assert read(Kind.STEP, {"kickoff_id": "k-1", "output": "x"}) == CrewWebhook("k-1")


def test_a_task_that_is_done_names_itself():
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
def test_a_question_is_read_in_every_shape_that_is_known(body: Any):
    assert read(Kind.HUMAN, body) == CrewWebhook("k-1", poll_now=True, question=QuestionContent("t", "Approve?"))


def test_an_old_webhook_that_calls_the_execution_a_task_tells_no_task():
    assert read(Kind.HUMAN, {"kickoff_id": "k-1", "task_id": "k-1"}).question == QuestionContent()


def test_what_a_human_is_to_look_at_is_fit_for_every_store():
    asked = read(Kind.HUMAN, {"task_output": "a\x00b\ud800" + "x" * 100_000}).question
    assert asked is not None
    assert asked.output is not None
    assert (asked.output[:3], len(asked.output)) == ("ab?", 65_535)


@pytest.mark.parametrize("answer", [Running({"completed": 1}), NotFound()])
def test_what_the_status_tells_of_progress_counts(answer: Any):
    assert with_task_progress(answer, TasksDone(1, "collect")) is answer


def test_where_the_status_tells_no_progress_finished_tasks_are_counted():
    told = {"unit": "task", "completed": 2, "total": None, "current": None, "last": "draft"}
    assert with_task_progress(Running(), add_task(add_task(None, "collect"), "draft")) == Running(told)
    assert with_task_progress(Running(), None) == Running()


def test_of_a_task_s_name_so_much_is_kept_as_is_needed_to_know_it():
    assert read(Kind.TASK, {"name": "x" * 60_000}).task == "x" * MAX_TASK_NAME


@pytest.mark.parametrize("value", ["", "a/b", "x" * 129, 7, None, ["k"]])
def test_what_cannot_be_an_id_is_none(value: Any):
    assert read(Kind.STEP, {"kickoff_id": value}) == CrewWebhook()


@pytest.mark.parametrize("shape", [lambda e: {"events": e}, lambda e: e, lambda e: e[0]])
def test_a_stream_comes_in_three_shapes(shape: Any):
    assert read(Kind.STREAM, shape([streamed("crew_kickoff_started", emission_sequence=1)])) == CrewWebhook("k-1")


def test_in_a_batch_the_first_by_number_is_the_outer_one():
    inner = streamed("crew_kickoff_started", "inner", emission_sequence=4)
    outer = streamed("flow_started", "k-1", emission_sequence=1)
    assert read(Kind.STREAM, {"events": [inner, outer]}) == CrewWebhook("k-1")


def test_a_batch_that_does_not_begin_with_a_start_names_nothing():
    events = [
        streamed("task_completed", emission_sequence=5),
        streamed("crew_kickoff_started", "inner", emission_sequence=6),
    ]
    assert read(Kind.STREAM, {"events": events}) == CrewWebhook()


@pytest.mark.parametrize("type_", ["crew_kickoff_failed", "crew_kickoff_completed", "flow_finished"])
def test_an_end_in_the_stream_is_worth_a_look(type_: str):
    assert read(Kind.STREAM, {"events": [streamed(type_)]}) == CrewWebhook(poll_now=True)


def test_the_end_of_an_agents_inner_flow_is_no_end():
    assert read(Kind.STREAM, {"events": [streamed("flow_finished", flow_name="AgentExecutor")]}) == CrewWebhook()


def test_a_crews_own_webhook_is_believed_only_where_the_status_has_said_not_found_for_long():
    webhook_result = Succeeded("said")
    assert with_webhook_result(Running(), webhook_result, long_missing=True) == Running()
    assert with_webhook_result(NotFound(), webhook_result, long_missing=True) is webhook_result
    assert with_webhook_result(NotFound(), webhook_result, long_missing=False) == NotFound()
    assert with_webhook_result(NoResponse("HTTP 500"), webhook_result, long_missing=True) == NoResponse("HTTP 500")
    assert with_webhook_result(NotFound(), None, long_missing=True) == NotFound()


def test_a_tasks_id_is_not_taken_for_the_executions():
    """Payloads of 2025 called the execution `task_id`; today that is another id, and taking it would lose the run."""
    assert read(Kind.STEP, {"description": "x", "task_id": "3f0c2a52"}) == CrewWebhook()


@pytest.mark.parametrize(
    ("webhook", "says"),
    [
        (CrewWebhook("k-1"), False),
        (CrewWebhook(poll_now=True), True),
        (CrewWebhook(question=QuestionContent("t")), True),
        (CrewWebhook(task="collect"), True),
    ],
)
def test_only_what_says_something_to_a_followed_run_is_worth_passing_on(webhook: CrewWebhook, says: bool):
    assert webhook.concerns_tracked_run is says
