"""Responses of the crew API: every status code, every dialect, and no exception for any content."""

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.crew import responses
from bridge.core.crew.flow_questions import read_answer_reply
from bridge.core.crew.reply import TOO_LARGE, Reply
from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    NoResponse,
    NotFound,
    NotStarted,
    Pending,
    Refused,
    Resumed,
    Running,
    Started,
    StopResponse,
    Succeeded,
    TooLarge,
    Unknown,
    WaitingForHuman,
    read_kickoff,
    read_resume,
    read_status,
)
from bridge.core.redaction import MASK
from tests.fakes import KICKOFF_ID
from tests.unit.test_json import JSON

HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"


def said(body: Any, code: int = 200, **more: Any) -> Reply:
    return Reply(code, body if isinstance(body, bytes) else json.dumps(body).encode(), **more)


def status_of(**body: Any) -> responses.StatusResponse:
    return read_status(said(body))


# POST /kickoff: the rule for ambiguous POSTs, row by row ------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 201, 202, 299])
def test_a_response_with_an_id_means_started(code: int):
    assert read_kickoff(said({"kickoff_id": KICKOFF_ID}, code)) == Started(KICKOFF_ID)


@pytest.mark.parametrize("kickoff_id", ["a", "abcd1234-5678-90ef-ghij-klmnopqrstuv", "A_b-9", "x" * 128])
def test_an_id_need_not_be_a_uuid(kickoff_id: str):
    assert read_kickoff(said({"kickoff_id": kickoff_id, "state_id": None})) == Started(kickoff_id)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        HTML,
        b'"5b0f6c1e"',
        b"[]",
        b"null",
        b'{"kickoff_id": "5b0f',
        b"\xff\xfe\xff",
        b"[" * 100_000,
        {},
        {"id": "5b0f"},
        {"kickoff_id": None},
        {"kickoff_id": 17},
        {"kickoff_id": ["a"]},
        {"kickoff_id": ""},
        {"kickoff_id": " a"},
        {"kickoff_id": "a\n"},
        {"kickoff_id": "../stop/a"},
        {"kickoff_id": "a%2fb"},
        {"kickoff_id": "é"},
        {"kickoff_id": "x" * 129},
    ],
)
def test_success_without_a_usable_id_is_in_doubt(body: Any):
    assert isinstance(read_kickoff(said(body)), InDoubt)


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308, 400, 405, 409, 413, 415, 422, 451])
def test_a_definite_refusal_reports_the_code_and_the_message_of_the_api(code: int):
    response = read_kickoff(said({"detail": "Missing inputs: season, region"}, code))
    assert response == Refused(f"HTTP {code}: Missing inputs: season, region")


@pytest.mark.parametrize("code", [408, 425])
@pytest.mark.parametrize("text", ["Request Timeout", "Request time limit reached", "Execution limit reached"])
def test_a_kickoff_that_the_server_did_not_finish_reading_in_time_is_in_doubt(code: int, text: str):
    """A 408 whose text mentions a limit was taken for a quota: the kickoff was posted again."""
    assert read_kickoff(said({"detail": text}, code)) == InDoubt(f"HTTP {code}: {text}")


@pytest.mark.parametrize("code", [401, 402, 403, 404])
def test_a_wrong_token_or_url_or_a_lapsed_plan_makes_the_crew_unavailable(code: int):
    assert read_kickoff(said({"detail": "Not authenticated"}, code)) == CrewUnavailable(
        f"HTTP {code}: Not authenticated"
    )


@pytest.mark.parametrize("code", [400, 402, 403, 409, 429, 503])
@pytest.mark.parametrize("text", ["Monthly execution limit of 50 exceeded", "Execution limit reached"])
def test_a_quota_message_pauses_the_crew_for_any_code(code: int, text: str):
    assert isinstance(read_kickoff(said({"error": text}, code, retry_after="5")), CrewUnavailable)


@pytest.mark.parametrize("text", ["QUOTA exceeded", "Plan limit reached"])
def test_an_ambiguous_quota_message_counts_only_for_codes_that_do_not_blame_the_request(text: str):
    """A 400 that quoted an input named "sales quota" paused its crew for all requests."""
    assert isinstance(read_kickoff(said({"error": text}, 402)), CrewUnavailable)
    assert isinstance(read_kickoff(said({"error": text}, 429)), CrewUnavailable)
    assert isinstance(read_kickoff(said({"error": text}, 400)), Refused)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "Missing inputs: quota_year, region"},
        {"detail": [{"type": "missing", "loc": ["body", "inputs", "sales_quota"], "msg": "Field required"}]},
    ],
)
def test_an_input_named_quota_does_not_pause_the_crew(body: Any):
    """Mistaken for a quota error, a request with a missing input would be posted again every minute without limit."""
    assert isinstance(read_kickoff(said(body, 422)), Refused)


@pytest.mark.parametrize(
    ("more", "after"),
    [({}, None), ({"retry_after": "30"}, 30.0), ({"retry_after": "x"}, None), ({"elapsed": 40.0}, None)],
)
def test_a_rate_limit_means_not_started(more: dict[str, Any], after: float | None):
    assert read_kickoff(said(b"slow down", 429, **more)) == NotStarted("HTTP 429: slow down", after)


@pytest.mark.parametrize(
    ("more", "after"),
    [
        ({"elapsed": 0.2}, None),
        ({"elapsed": 9.9}, None),
        ({"elapsed": 30.0, "retry_after": "12"}, 12.0),
        ({"elapsed": 0.1, "retry_after": "12"}, 12.0),
        (
            {
                "elapsed": 30.0,
                "retry_after": "Tue, 24 Nov 2026 08:01:00 GMT",
                "date": "Tue, 24 Nov 2026 08:00:00 GMT",
            },
            60.0,
        ),
    ],
)
def test_a_fast_503_or_one_with_retry_after_means_not_started(more: dict[str, Any], after: float | None):
    assert read_kickoff(said(b"", 503, **more)) == NotStarted("HTTP 503: no text", after)


@pytest.mark.parametrize("more", [{"elapsed": 10.0}, {"elapsed": 25.0}, {"elapsed": 60.0, "retry_after": "later"}])
def test_a_slow_503_is_in_doubt(more: dict[str, Any]):
    assert isinstance(read_kickoff(said(HTML, 503, **more)), InDoubt)


@pytest.mark.parametrize("code", [500, 501, 502, 504, 507, 520, 599])
@pytest.mark.parametrize("body", [b"Internal Server Error", HTML, b'{"detail": "boom"}'])
def test_a_server_error_is_in_doubt(code: int, body: bytes):
    assert isinstance(read_kickoff(said(body, code, retry_after="5")), InDoubt)


@pytest.mark.parametrize("code", [406, 408, 410, 418, 421, 425, 100, 600])
def test_an_unexpected_code_is_in_doubt(code: int):
    assert isinstance(read_kickoff(said({"detail": "?"}, code)), InDoubt)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"detail": "a", "message": "b", "error": "c"}, "a"),
        ({"error": "Validation Error", "message": "Missing required inputs"}, "Missing required inputs"),
        ({"error": "Validation Error"}, "Validation Error"),
        ({"detail": "", "error": "c"}, "c"),
        (
            {"detail": [{"loc": ["body", "x"], "msg": "Field required"}]},
            '[{"loc": ["body", "x"], "msg": "Field required"}]',
        ),
        ({"message": {"text": "é"}}, '{"text": "\\u00e9"}'),
        ({"other": "x"}, "no text"),
        (b"  Internal Server Error \n", "Internal Server Error"),
        (b" \n", "no text"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'"a string"', '"a string"'),
    ],
)
def test_the_message_is_read_from_every_error_format(body: Any, text: str):
    assert read_kickoff(said(body, 400)) == Refused(f"HTTP 400: {text}")


@pytest.mark.parametrize("body", [b"x" * 100_000, {"detail": "x" * 100_000}, {"detail": ["x" * 100_000]}])
def test_a_long_message_is_shortened(body: Any):
    response = read_kickoff(said(body, 400))
    assert isinstance(response, Refused)
    assert len(response.message) <= responses.MAX_MESSAGE + 10


# GET /status: normalization, row by row -----------------------------------------------------------------------------

TOKENS = {
    Pending: ["pending", "queued", "received", "scheduled", "task_is_pending"],
    Running: [
        "started", "starting", "running", "in_progress", "processing", "retry", "retrying", "resumed", "progress",
    ],
    WaitingForHuman: [
        "paused", "pending_human_input", "awaiting_input", "awaiting_human_input", "awaiting_human_feedback",
        "waiting_for_human", "human_input_required",
    ],
    Succeeded: ["success", "succeeded", "completed", "complete", "finished", "done"],
    Failed: [
        "failed", "failure", "error", "errored", "timeout", "timed_out",
        "revoked", "cancelled", "canceled", "stopped", "aborted",
    ],
    NotFound: ["not_found", "notfound"],
}  # fmt: skip
ROWS = [(token, kind) for kind, tokens in TOKENS.items() for token in tokens] + [("task_is_running", Running)]


@pytest.mark.parametrize(("token", "kind"), ROWS)
def test_every_state_of_the_table_is_read_in_every_spelling(token: str, kind: type):
    for spelling in (
        token,
        token.upper(),
        token.title(),
        f" {token}\n",
        token.replace("_", " "),
        token.replace("_", "-"),
    ):
        assert type(status_of(state=spelling)) is kind
        assert type(status_of(status=spelling)) is kind
        assert type(status_of(state=None, status=spelling)) is kind
    assert type(status_of(state=token.replace("_", " _- "))) is kind


@pytest.mark.parametrize(
    ("state", "status", "kind"),
    [
        ("RUNNING", "Task is Running", Running),
        ("PENDING", "Task is pending", Pending),
        ("STARTED", None, Running),
        ("SUCCESS", None, Succeeded),
        ("SUCCESS", "failed", Succeeded),
        ("FAILED", "completed", Failed),
        ("FAILED", "KeyError: 'region'", Failed),
        ("NOT FOUND", "Task not found or Invalid kickoff id", NotFound),
        ("PAUSED", "Waiting for human feedback", WaitingForHuman),
        ("REVOKED", "Task was revoked", Failed),
        ("", "Task is Running", Running),
        ("  ", "queued", Pending),
        (None, "Task is pending", Pending),
        (9, "completed", Succeeded),
        ("TRANSMOGRIFIED", "completed", Unknown),
        (None, "Task not found or Invalid kickoff id", Unknown),
        (None, "The crew failed to load", Unknown),
        (None, None, Unknown),
        (9, ["?"], Unknown),
    ],
)
def test_state_takes_precedence_over_status(state: Any, status: Any, kind: type):
    assert type(status_of(state=state, status=status)) is kind


def test_a_paused_flow_waits_for_a_human():
    assert status_of(state="PAUSED", status="awaiting_human_feedback", result=None) == WaitingForHuman()
    assert status_of(status="awaiting_human_feedback") == WaitingForHuman()


@pytest.mark.parametrize("body", [b"", b"OK", HTML, b"[]", b"null", b"7", b"\xff\xfe", b"{", b"[" * 100_000, b"{}"])
def test_a_body_without_a_known_state_is_unknown(body: bytes):
    assert isinstance(read_status(Reply(200, body)), Unknown)


def test_an_unknown_state_is_quoted_and_shortened():
    assert status_of(state="Z" * 5000) == Unknown(f"state {'z' * 60!r}")


@pytest.mark.parametrize("body", [{"error": "Execution not found"}, HTML, b""])
def test_404_is_not_found(body: Any):
    assert read_status(said(body, 404)) == NotFound()


@pytest.mark.parametrize("code", [100, 301, 302, 400, 405, 409, 422, 429, 500, 502, 503, 504])
def test_any_other_code_is_no_response(code: int):
    body = {"state": "SUCCESS", "detail": "not now"}
    assert read_status(said(body, code, retry_after="40")) == NoResponse(f"HTTP {code}: not now", 40.0)


def test_a_rate_limit_is_not_a_quota_error():
    assert read_kickoff(said({"detail": "Rate limit reached"}, 429)) == NotStarted("HTTP 429: Rate limit reached", None)


@pytest.mark.parametrize(("code", "text"), [(401, "Not authenticated"), (403, "no"), (429, "Monthly execution limit")])
def test_a_rejected_poll_makes_the_crew_unavailable(code: int, text: str):
    assert read_status(said({"detail": text}, code)) == CrewUnavailable(f"HTTP {code}: {text}")


@pytest.mark.parametrize("code", [201, 202, 206])
def test_any_2xx_is_read(code: int):
    assert read_status(said({"state": "RUNNING"}, code)) == Running()


PROGRESS = {"unit": "task", "completed": 2, "total": 4, "remaining": 2, "current": "map_sources_task"}


@pytest.mark.parametrize(
    ("progress", "kept"), [(PROGRESS, PROGRESS), (None, None), ([1], None), ("half", None), ({}, {})]
)
def test_progress_is_returned_as_the_api_reports_it(progress: Any, kept: Any):
    assert status_of(state="RUNNING", progress=progress, source="memory") == Running(kept)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"state": "RUNNING", "flow_id": "f-1", "result": None}, WaitingForHuman),
        ({"state": "RUNNING", "flow_id": "f-1"}, WaitingForHuman),
        ({"state": "NOT FOUND", "flow_id": "f-1"}, WaitingForHuman),
        ({"state": "strange", "flow_id": "f-1"}, WaitingForHuman),
        ({"state": "PENDING", "flow_id": "f-1"}, WaitingForHuman),
        ({"state": "RUNNING", "flow_id": "f-1", "result": "draft"}, Running),
        ({"state": "RUNNING", "flow_id": ""}, Running),
        ({"state": "RUNNING", "flow_id": 7}, Running),
        ({"state": "RUNNING", "flow_id": None}, Running),
        ({"state": "SUCCESS", "flow_id": "f-1", "result": None}, Succeeded),
        ({"state": "FAILED", "flow_id": "f-1", "result": None}, Failed),
        ({"state": "REVOKED", "flow_id": "f-1"}, Failed),
    ],
)
def test_a_flow_without_a_result_that_names_itself_waits_for_a_human(body: Any, kind: type):
    assert type(read_status(said(body))) is kind


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"result": "Peat grows 1 mm a year."}, "Peat grows 1 mm a year."),
        ({"result": "", "last_executed_task": {"output": "not this"}}, ""),
        ({"result": "needs_rework", "source": "application"}, "needs_rework"),
        ({"result": None, "last_executed_task": {"output": "from the task"}}, "from the task"),
        ({"last_executed_task": {"output": None}, "tasks_output": [{"raw": "no"}, {"raw": "last"}]}, "last"),
        ({"last_executed_task": "x", "tasks_output": "x"}, None),
        ({"tasks_output": []}, None),
        ({"tasks_output": ["x"]}, None),
        ({}, None),
    ],
)
def test_the_text_of_the_result_is_found_in_every_dialect(body: dict[str, Any], result: str | None):
    response = read_status(said({"state": "SUCCESS", **body}))
    assert isinstance(response, Succeeded)
    assert (response.result, response.result_json, response.usage) == (result, None, None)


def test_text_and_parsed_result_are_separate():
    text, parsed, usage = '{"depth": 3}', {"depth": 3}, {"total_tokens": 777}
    response = status_of(state="SUCCESS", status=None, result=text, result_json=parsed, usage_metrics=usage)
    assert response == Succeeded(text, parsed, usage)
    assert status_of(state="SUCCESS", result=text, result_json=None) == Succeeded(text, None, None)


def test_the_documented_dialect_is_understood():
    running = status_of(status="running", current_task="map_task", progress={"completed_tasks": 1, "total_tasks": 2})
    done = status_of(
        status="completed", result={"output": "Done.", "tasks": [{"task_id": "map_task"}]}, execution_time=9
    )
    failed = status_of(status="error", error="Task execution failed: no model", execution_time=3)
    assert running == Running({"unit": "task", "completed": 1, "total": 2, "current": "map_task"})
    assert isinstance(done, Succeeded)
    assert (done.result, done.progress, responses.reported_run_time(done)) == (
        "Done.",
        {"unit": "task", "completed": 1, "total": 1, "current": None, "duration_seconds": 9},
        9.0,
    )
    assert failed == Failed("Task execution failed: no model")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"state": "FAILED", "error": "e", "error_message": "m", "status": "s", "result": "r"}, "e"),
        ({"state": "FAILED", "error_message": "m", "status": "s", "result": "r"}, "m"),
        ({"state": "FAILED", "status": "KeyError: 'x'", "result": "r"}, "KeyError: 'x'"),
        ({"state": "FAILED", "status": None, "result": "r", "detail": "d"}, "r"),
        ({"state": "FAILED", "result": {"a": 1}, "detail": "d", "message": "g"}, "d"),
        ({"state": "FAILED", "message": "g"}, "g"),
        ({"state": "FAILED", "error": {"code": 1}, "status": ""}, "no reason given"),
        ({"state": "FAILED"}, "no reason given"),
        ({"status": "error"}, "no reason given"),
        ({"status": "failed", "result": "r"}, "r"),
        ({"state": None, "status": "failed", "detail": "d"}, "d"),
        ({"state": "CANCELLED", "status": "by a person"}, "the execution was stopped: by a person"),
    ],
)
def test_the_reason_of_a_failure_is_found_in_every_dialect(body: dict[str, Any], message: str):
    assert read_status(said(body)) == Failed(message)


def test_the_reason_of_a_failure_is_shortened():
    assert status_of(state="FAILED", error="x" * 100_000) == Failed("x" * responses.MAX_MESSAGE)


def encodable(response: Any) -> bool:
    """Whether every text of the response can be encoded as UTF-8, and every number as JSON."""
    try:
        json.dumps(asdict(response), ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "body",
    [
        rb'{"state": "SUCCESS", "result": "cut in the middle of an owl: \ud83e"}',
        rb'{"state": "SUCCESS", "result": "ok", "result_json": {"owl": "\ud83e"}}',
        rb'{"state": "SUCCESS", "result": "ok", "usage_metrics": {"total": NaN}}',
        rb'{"state": "SUCCESS", "result": "ok", "result_json": {"n": 1e999}}',
        rb'{"state": "FAILED", "error": "\udc00"}',
        rb'{"state": "RUNNING", "progress": {"current": "\ud83e"}}',
        rb'{"status": "running", "current_task": "\ud83e"}',
        rb'{"state": "RUNNING", "last_executed_task": {"name": "\ud83e", "output": ["\ud83e", 1e999]}}',
    ],
)
def test_every_part_of_a_status_can_be_stored_and_published(body: bytes):
    """Event bytes are UTF-8 JSON; a lone surrogate or NaN from a crew crashed the bridge at every restart."""
    assert encodable(read_status(Reply(200, body)))


@pytest.mark.parametrize("member", ["result_json", "usage_metrics", "progress"])
def test_deeply_nested_values_are_dropped(member: str):
    """A value that could be read but not stored crashed the process at every restart."""
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    response = read_status(Reply(200, b'{"state": "SUCCESS", "result": "text", "%s": %s}' % (member.encode(), deep)))
    assert response == Succeeded("text")


def test_every_part_of_a_refusal_can_be_stored_and_published():
    assert encodable(read_kickoff(Reply(422, rb'{"detail": "bad: \ud83e"}')))


BODIES = st.binary(max_size=40) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.dictionaries(
        st.sampled_from(["state", "status", "result", "error", "detail", "progress", "kickoff_id", "flow_id",
                         "last_executed_task", "tasks_output", "result_json"]),
        JSON | st.sampled_from(["SUCCESS", "FAILED", "NOT FOUND", "running", KICKOFF_ID]),
        max_size=5,
    ),
)  # fmt: skip
REPLIES = st.builds(Reply, st.integers(100, 700), BODIES, st.floats(0, 100), st.none() | st.text(max_size=8))


@given(REPLIES)
def test_any_reply_is_classified_and_only_a_2xx_with_an_id_means_started(reply: Reply):
    kickoff = read_kickoff(reply)
    assert isinstance(kickoff, responses.KickoffResponse)
    assert not isinstance(kickoff, Started) or 200 <= reply.code < 300
    status = read_status(reply)
    assert isinstance(status, responses.StatusResponse)
    assert not isinstance(status, Succeeded | Failed) or 200 <= reply.code < 300


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (Succeeded("text", progress={"duration_seconds": 47.2}), 47.2),
        (Succeeded("text", progress={"duration_seconds": "long"}), None),
        (Succeeded("text", progress={}), None),
        (Succeeded("text"), None),
        (Failed("boom"), None),
    ],
)
def test_the_run_time_reported_by_the_api_is_read(response: responses.StatusResponse, seconds: float | None):
    assert responses.reported_run_time(response) == seconds


# Responses to human input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "response"),
    [
        (Reply(200, b'{"kickoff_id": "a-1"}'), Resumed("a-1")),
        (Reply(200, b'{"status": "resumed", "message": "ok"}'), Resumed()),
        (Reply(202, b"<html>"), Resumed()),
        (Reply(200, b'{"kickoff_id": "a-1", "padding": "xx', cut=TOO_LARGE), Resumed("a-1")),
        (Reply(400, b'{"error": "not pending"}'), Refused("HTTP 400: not pending")),
        (Reply(404, b'{"error": "Execution not found"}'), Refused("HTTP 404: Execution not found")),
        (Reply(422, b'{"detail": "Field required"}'), Refused("HTTP 422: Field required")),
        (Reply(401, b'{"detail": "no"}'), CrewUnavailable("HTTP 401: no")),
        (Reply(429, b"", retry_after="7"), NotStarted("HTTP 429: no text", 7.0)),
        (Reply(503, b""), NotStarted("HTTP 503: no text")),
        (Reply(500, b"Internal Server Error"), InDoubt("HTTP 500: Internal Server Error")),
    ],
)
def test_responses_to_resume(reply: Reply, response: Any):
    assert read_resume(reply) == response


@pytest.mark.parametrize(
    ("reply", "response"),
    [
        (Reply(200, b""), Resumed()),
        (Reply(404, b"secret"), Refused("HTTP 404")),
        (Reply(401, b"secret"), Refused("HTTP 401")),
        (Reply(307, b"secret"), Refused("HTTP 307")),
        (Reply(429, b"secret", retry_after="7"), NotStarted("HTTP 429", 7.0)),
        (Reply(503, b"secret", elapsed=1.0), NotStarted("HTTP 503")),
        (Reply(503, b"secret", elapsed=30.0), InDoubt("HTTP 503")),
        (Reply(502, b"secret"), InDoubt("HTTP 502")),
    ],
)
def test_responses_of_a_flow_callback_are_classified_by_code_alone(reply: Reply, response: Any):
    assert read_answer_reply(reply) == response


WHOLE_ID = b'{"kickoff_id": "k-1"}'


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, b'{"kickoff', cut="incomplete response"), InDoubt("accepted; incomplete response")),
        (Reply(200, WHOLE_ID, cut="incomplete response"), Started("k-1")),
        (Reply(200, b"[[", cut=TOO_LARGE), InDoubt(f"accepted; {TOO_LARGE}")),
        (Reply(200, b'{"kickoff_id": "k-1", "padding": "xx', cut=TOO_LARGE), Started("k-1")),
        (Reply(200, b'{"kickoff_id": "k-1", "padding": "xx', cut="timed out"), Started("k-1")),
        (Reply(200, b'{"kickoff_id": "k-', cut=TOO_LARGE), InDoubt(f"accepted; {TOO_LARGE}")),
        (Reply(200, b'{"padding": "xx', cut=TOO_LARGE), InDoubt(f"accepted; {TOO_LARGE}")),
        (Reply(200, b'{"a": {"kickoff_id": "k-1"}, "b": "xx', cut=TOO_LARGE), InDoubt(f"accepted; {TOO_LARGE}")),
        (Reply(422, b"", cut="timed out"), Refused("HTTP 422: no text")),
        (Reply(429, b"", cut="timed out"), NotStarted("HTTP 429: no text")),
        (Reply(401, b"", cut="timed out"), CrewUnavailable("HTTP 401: no text")),
        (Reply(500, b"", cut="timed out"), InDoubt("HTTP 500: no text")),
    ],
)
def test_a_truncated_kickoff_response_is_classified_by_its_code_and_the_received_part(
    reply: Reply, expected: object
) -> None:
    assert read_kickoff(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, b'{"state": "SUC', cut="incomplete response"), NoResponse("incomplete response")),
        (Reply(200, b'{"state": "SUCCESS", "result": "r"}', cut="incomplete response"), Succeeded("r")),
        (Reply(200, b"[[", cut=TOO_LARGE), TooLarge(succeeded=False)),
        (Reply(200, b'{"result": "xx', cut=TOO_LARGE), TooLarge(succeeded=False)),
        (Reply(200, b'{"state": "SUCCESS", "result": "xx', cut=TOO_LARGE), TooLarge(succeeded=True)),
        (Reply(200, b'{"status": "completed", "result": {"output": "xx', cut=TOO_LARGE), TooLarge(succeeded=True)),
        (Reply(200, b'{"state": "FAILED", "status": "no key", "a": "xx', cut=TOO_LARGE), Failed("no key")),
        (Reply(200, b'{"state": "RUNNING", "progress": {"n": 1, "x', cut=TOO_LARGE), Running({"n": 1})),
        (Reply(404, b"", cut="timed out"), NotFound()),
    ],
)
def test_a_truncated_status_is_classified_by_the_received_part(reply: Reply, expected: object) -> None:
    assert read_status(reply) == expected


@pytest.mark.parametrize("reported", ["1" * 400, "-1", "true", '"12"', "[12]", "1" * 4400, "1e999", "NaN"])
def test_an_unusable_run_time_is_none(reported: str) -> None:
    """`float()` of 400 digits crashed the process and left the POSTs of other crews in doubt."""
    body = f'{{"state": "SUCCESS", "result": "done", "progress": {{"duration_seconds": {reported}}}}}'
    response = read_status(Reply(200, body.encode()))
    assert isinstance(response, Succeeded)
    assert response.result == "done"
    assert responses.reported_run_time(response) is None


def test_a_response_of_mostly_brackets_is_no_response():
    assert read_status(Reply(200, b"[" + b"{}," * 300_000 + b"{}]")) == Unknown("the response is not a JSON object")
    many = b'{"state": "SUCCESS", "result": "r", "x": [' + b"{}," * 100_000 + b"{}]}"
    assert isinstance(read_status(Reply(200, many)), Succeeded)


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, b"{}", StopResponse.STOPPED),
        (400, b'{"detail":"Cannot stop execution. Current state: SUCCESS"}', StopResponse.ENDED),
        (400, b'{"detail":"Cannot stop execution. Current state: RUNNING"}', StopResponse.NOT_STOPPED),
        (400, b'{"detail":"no"}', StopResponse.NOT_STOPPED),
        (404, b"", StopResponse.NOT_STOPPED),
    ],
)
def test_responses_to_stop(code: int, body: bytes, expected: StopResponse):
    assert responses.read_stop(Reply(code, body)) is expected


@pytest.mark.parametrize("kickoff_id", ["k-1.33", "a:b", "execution~7", "x" * 128, "+=@,;!"])
def test_any_printable_path_segment_can_be_an_id(kickoff_id: str):
    assert read_kickoff(said({"kickoff_id": kickoff_id})) == Started(kickoff_id)


@pytest.mark.parametrize("value", [".", "..", "a/b", "a?b", "a#b", "a%2Fb", "a b", "a\n", "a\x00", "", "a\\b"])
def test_text_that_could_change_the_path_is_not_an_id(value: str):
    assert not responses.usable_kickoff_id(value)


def test_a_redacted_id_is_no_id():
    """A webhook is redacted before it is read; its `run-***` became the run's execution and was polled."""
    assert not responses.usable_kickoff_id(f"run-{MASK}")
