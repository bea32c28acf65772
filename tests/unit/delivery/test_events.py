"""Events of runs: the bytes of the CloudEvent, and one delivery per destination."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.crew_policy import CrewPolicy, PermanentDestination
from bridge.core.delivery import events
from bridge.core.delivery.events import run_document
from bridge.core.delivery.model import Channel, Destination
from bridge.core.human_input.model import HumanInput, Question, QuestionContent, QuestionStage
from bridge.core.runs.model import Envelope, Outcome, Run, RunError, State, Task
from tests.fakes import NOW, a_run, run_id

EVERYWHERE = CrewPolicy(results_exchange=True, callback_url="https://crew.example/all")
EXCHANGE = CrewPolicy(results_exchange=True)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ended(**request: Any) -> Run:
    envelope = Envelope("queue", reply_to="reply.shop", correlation_id="c-17", traceparent=TRACE)
    run = a_run(envelope=envelope, meta={"order": 17}, idempotency_key="order-17", **request)
    outcome = Outcome('{"höhe": 3}', {"höhe": 3}, {"total_tokens": 9})
    run = replace(run, started_at=NOW + 1.5, finished_at=NOW + 61.0004)
    return replace(run, state=State.SUCCEEDED, kickoff_id="k-1", polls=4, outcome=outcome)


def the_event(run: Run, type_: str = "run.succeeded", **more: Any) -> Any:
    return json.loads(events.with_event(run, type_, EXCHANGE, NOW + 62, **more).deliveries[0].event.body)


def test_the_event_is_a_cloudevent_in_the_documented_format():
    assert the_event(ended()) == {
        "specversion": "1.0",
        "id": f"{run_id(1)}-succeeded",
        "source": "/crews/research",
        "type": "run.succeeded",
        "subject": run_id(1),
        "time": "2027-01-15T08:01:02.000Z",
        "datacontenttype": "application/json",
        "data": {
            "run_id": run_id(1),
            "crew": "research",
            "kickoff_id": "k-1",
            "state": "succeeded",
            "result": '{"höhe": 3}',
            "result_json": {"höhe": 3},
            "error": None,
            "meta": {"order": 17},
            "idempotency_key": "order-17",
            "usage": {"total_tokens": 9},
            "progress": None,
            "tasks": [],
            "accepted_at": "2027-01-15T08:00:00.000Z",
            "started_at": "2027-01-15T08:00:01.500Z",
            "finished_at": "2027-01-15T08:01:01.000Z",
            "polls": 4,
        },
    }


def linking(run: Run, limit: int, type_: str = "run.succeeded") -> tuple[Any, int]:
    """The event under this size limit, and its size in bytes."""
    policy = replace(EXCHANGE, max_event_bytes=limit, api_url="https://bridge.example.com")
    body = events.with_event(run, type_, policy, NOW + 62).deliveries[0].event.body
    return json.loads(body), len(body)


def test_outputs_of_tasks_are_omitted_before_a_result_is_linked():
    run = replace(
        ended(), outcome=Outcome("ä" * 500), tasks=(Task("collect", "A", "ö" * 500, NOW), Task(None, None, 1))
    )
    whole, size = linking(run, 10_000)
    assert whole["data"]["tasks"] == [
        {"name": "collect", "agent": "A", "output": "ö" * 500, "finished_at": "2027-01-15T08:00:00.000Z"},
        {"name": None, "agent": None, "output": 1, "finished_at": None},
    ]
    without, smaller = linking(run, size - 1)
    assert (without["data"]["result"], [task["output"] for task in without["data"]["tasks"]]) == (
        "ä" * 500,
        [None, None],
    )
    linked, _ = linking(run, smaller - 1)
    assert (linked["data"]["result"], "dataref" in linked) == (None, True)
    assert [task["name"] for task in linked["data"]["tasks"]] == ["collect", None]


def test_a_large_result_is_linked():
    large = replace(ended(), outcome=Outcome("ä" * 500, {"text": "ä" * 500}, {"total_tokens": 9}))
    whole, size = linking(large, 10_000)
    assert (whole["data"]["result"], "dataref" in whole) == ("ä" * 500, False)
    assert linking(large, size) == (whole, size)
    linked, smaller = linking(large, size - 1)
    assert smaller < 1000
    assert linked.pop("dataref") == f"https://bridge.example.com/v1/runs/{run_id(1)}/result"
    assert linked == whole | {"data": whole["data"] | {"result": None, "result_json": None}}
    assert events.result_document(large) == {"state": "succeeded"} | {
        name: whole["data"][name] for name in ("run_id", "result", "result_json")
    }


def test_a_large_json_result_is_linked():
    large = replace(ended(), outcome=Outcome(None, {"text": "a" * 500}))
    assert "dataref" in linking(large, 900)[0]


def test_large_content_without_a_result_is_included():
    """There would be nothing behind the link."""
    assert "dataref" not in linking(a_run(meta={"text": "a" * 500}), 100, "run.failed")[0]


def test_a_late_result_is_included_at_any_size():
    """It is in no row of the store: a run that timed out stays unchanged."""
    assert "dataref" not in linking(ended(), 100, "run.late_result")[0]


def test_an_error_has_a_code_and_a_message():
    failed = replace(a_run(), outcome=Outcome(error=RunError("lost", "gone")))
    assert events.run_document(failed)["error"] == {"code": "lost", "message": "gone"}


def test_the_same_fact_has_the_same_id_and_bytes():
    one, two = (events.with_event(ended(), "run.succeeded", EVERYWHERE, NOW).deliveries for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("type_", "sequence", "end"),
    [("run.failed", 1, "-failed"), ("run.in_doubt", 1, "-in_doubt"), ("run.in_doubt", 2, "-in_doubt-2")],
)
def test_ids_contain_the_run_and_the_kind_and_distinguish_repeats(type_: str, sequence: int, end: str):
    assert the_event(a_run(), type_, sequence=sequence)["id"] == run_id(1) + end


def test_the_envelope_of_an_event_has_the_properties_of_a_message():
    event = events.with_event(ended(), "run.succeeded", EXCHANGE, NOW).deliveries[0].event
    assert (event.content_type, event.type, event.run_id) == (
        "application/cloudevents+json",
        "run.succeeded",
        run_id(1),
    )
    assert (event.crew, event.correlation_id, event.created_at) == ("research", "c-17", NOW)
    assert event.headers == {"run_id": run_id(1), "crew": "research", "kickoff_id": "k-1", "traceparent": TRACE}


def test_the_deliveries_of_a_run_have_its_trace_context_and_a_refused_message_has_only_its_header():
    delivery = events.with_event(ended(), "run.succeeded", EXCHANGE, NOW).deliveries[0]
    refused = events.dead_letter("d-1", b"", None, {"traceparent": TRACE}, NOW)
    assert delivery.traceparent == ended().traceparent == TRACE
    assert replace(delivery, event=refused).traceparent is None


def test_the_key_is_the_default_correlation_id_and_unknown_headers_are_dropped():
    event = events.with_event(a_run(idempotency_key="k-9"), "run.cancelled", EXCHANGE, NOW).deliveries[0].event
    assert event.correlation_id == "k-9"
    assert event.headers == {"run_id": run_id(1), "crew": "research"}


def test_every_destination_has_a_delivery_of_the_same_event():
    found = events.with_event(
        ended(callback_url="https://shop.example/17"), "run.succeeded", EVERYWHERE, NOW + 3
    ).deliveries
    assert [delivery.destination for delivery in found] == [
        Destination(Channel.EXCHANGE, "research.succeeded"),
        Destination(Channel.QUEUE, "reply.shop"),
        Destination(Channel.CALLBACK, "https://shop.example/17"),
        Destination(Channel.CALLBACK, "https://crew.example/all"),
    ]
    assert len({delivery.delivery_id for delivery in found}) == 4
    assert {id(delivery.event) for delivery in found} == {id(found[0].event)}
    assert {delivery.due_at for delivery in found} == {NOW + 3}


def test_a_url_that_occurs_twice_is_called_once():
    run = a_run(callback_url="https://crew.example/all")
    assert (
        len(events.with_event(run, "run.failed", CrewPolicy(callback_url="https://crew.example/all"), NOW).deliveries)
        == 1
    )


def callback_urls(type_: str, policy: CrewPolicy, callback_url: str | None = None) -> list[str]:
    found = events.with_event(a_run(callback_url=callback_url), type_, policy, NOW).deliveries
    return [delivery.destination.target for delivery in found]


def test_a_permanent_destination_receives_the_kinds_that_it_chose():
    policy = CrewPolicy(
        destinations=(
            PermanentDestination("https://crm.example/", frozenset({"succeeded", "failed"})),
            PermanentDestination("https://audit.example/"),
        )
    )
    assert callback_urls("run.failed", policy) == ["https://crm.example/", "https://audit.example/"]
    assert callback_urls("run.in_doubt", policy) == ["https://audit.example/"]


def test_a_permanent_destination_that_the_request_names_is_called_once():
    same = "https://crm.example/"
    destinations = (PermanentDestination(same), PermanentDestination(same, frozenset({"failed"})))
    policy = CrewPolicy(callback_url="https://crew.example/all", destinations=destinations)
    assert callback_urls("run.failed", policy, same) == [same, "https://crew.example/all"]


def test_a_run_without_destinations_has_no_deliveries():
    decision = events.with_event(a_run(), "run.failed", CrewPolicy(), NOW)
    assert decision.deliveries == ()
    assert [event.type for event in decision.unaddressed] == ["run.failed"]


@pytest.mark.parametrize(
    ("crew", "source", "key", "correlation_id", "correlated"),
    [
        ("research", "/crews/research", "k-1", "c-1", "c-1"),
        ("research", "/crews/research", "k-1", None, "k-1"),
        (None, "/requests", None, None, None),
        ("a b/<c>", "/requests", None, None, None),
        ("x" * 65, "/requests", None, None, None),
        ("nul\0", "/requests", None, None, None),
    ],
)
def test_a_refusal_has_a_code_and_a_message(
    crew: str | None, source: str, key: str | None, correlation_id: str | None, correlated: str | None
):
    refusal = {"code": "unknown_crew", "message": "there is no such crew", "crew": crew, "idempotency_key": key}
    event = events.rejected("id-1", refusal, correlation_id, NOW)
    body = json.loads(event.body)
    assert (body["id"], body["subject"], body["source"], body["type"]) == ("id-1", "id-1", source, "request.rejected")
    assert body["data"] == refusal
    reported = crew if source != "/requests" else None
    assert (event.event_id, event.crew, event.correlation_id, event.run_id) == ("id-1", reported, correlated, None)


@pytest.mark.parametrize(
    ("given", "content_type"),
    [("text/plain", "text/plain"), (None, ""), ("", "")],
)
def test_a_dead_letter_keeps_its_body_and_headers(given: str | None, content_type: str):
    event = events.dead_letter("id-2", b"\xff\x00{", given, {"x-bridge-reason": "invalid_json", "n": 1}, NOW)
    assert (event.body, event.content_type, event.type) == (b"\xff\x00{", content_type, "dead_letter")
    assert event.headers == {"x-bridge-reason": "invalid_json", "n": 1}


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (NOW + 0.25, "2027-01-15T08:00:00.250Z"),
        (NOW + 0.9999, "2027-01-15T08:00:00.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(at: float | None, text: str | None):
    assert events.timestamp(at) == text


def test_an_open_question_is_shown_without_its_callback_url():
    question = QuestionContent("t-1", "A or B?", "Please review.", ("a", "b"), "https://amp.example.com/?token=secret")
    waiting = replace(a_run(), human_input=HumanInput(Question(2, NOW, content=question)))
    assert run_document(waiting)["question"] == {
        "number": 2, "task_id": "t-1", "output": "A or B?", "message": "Please review.", "options": ["a", "b"],
        "asked_at": "2027-01-15T08:00:00.000Z", "stage": "open", "problem": None,
    }  # fmt: skip
    assert "question" not in run_document(a_run())
    assert "question" not in run_document(
        replace(waiting, human_input=HumanInput(Question(2, NOW, stage=QuestionStage.CONFIRMED)))
    )
    assert "question" not in run_document(replace(waiting, state=State.CANCELLED))
