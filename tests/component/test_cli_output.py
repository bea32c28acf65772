"""Output of the commands for people."""

import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.cli._errors import os_error_text
from bridge.cli._output import print_delivery, print_page, print_run, progress_line
from bridge.cli._tables import relative_time, short_ids

WAITING = {"reason": "slot", "detail": "4 runs are in progress", "since": "then", "until": None}
RUN: dict[str, Any] = {"run_id": "an-id", "crew": "research", "state": "failed", "error": None, "result": None}


def printed(capsys: pytest.CaptureFixture[str], **members: Any) -> list[str]:
    print_run(RUN | members, as_json=False)
    return capsys.readouterr().out.splitlines()[1:]


def test_an_error_is_printed_as_its_code_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": "execution_failed", "message": "ValueError: no"}

    assert printed(capsys, error=error) == ["  error: execution_failed: ValueError: no"]


@pytest.mark.parametrize(("result", "text"), [({"score": None}, '{"score": null}'), ([True], "[true]"), (0, "0")])
def test_a_result_that_is_not_text_is_printed_as_json(
    capsys: pytest.CaptureFixture[str], result: Any, text: str
) -> None:
    assert printed(capsys, result_json=result) == [f"  result_json: {text}"]


def test_everything_known_about_a_run_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    question = {"number": 2, "stage": "open", "task_id": "t-1", "asked_at": "then", "output": "Is it\ngood?"}
    history = [{"at": "then", "event": "answered"}, {"at": "now", "event": "ended", "state": "failed", "error": "lost"}]
    failed = {"id": "d-1", "state": "pending", "destination": "exchange:x", "attempts": 2, "last_error": "HTTP\n503"}
    later = failed | {"id": "d-3", "earlier_attempts": 1, "next_attempt_at": "later"}
    delivered = {"id": "d-2", "state": "delivered", "destination": "https://shop.example", "last_error": None}
    lines = printed(
        capsys,
        idempotency_key="order-42",
        progress={"completed": 1, "total": 3},
        polls=4,
        meta={"order": 42},
        usage={"total_tokens": 7},
        tasks=[{"name": "collect", "agent": None, "finished_at": "then"}],
        question=question,
        history=history,
        deliveries=[failed, delivered, later],
    )
    assert lines == [
        "  idempotency_key: order-42",
        "  progress: 1 of 3 tasks",
        "  polls: 4",
        '  meta: {"order": 42}',
        '  usage: {"total_tokens": 7}',
        "  question: 2, open since then",
        "    task_id: t-1",
        "    output: Is it",
        "    good?",
        "    answer: runs resume an-id FEEDBACK, or --approve",
        "  tasks:",
        "    then  collect",
        "  history:",
        "    then  answered",
        "    now  ended  state=failed error=lost",
        "  deliveries:",
        "    d-1  pending  to exchange:x, attempts: 2, its receiver is paused: HTTP 503",
        "    d-2  delivered  to https://shop.example",
        "    d-3  pending  to exchange:x, attempts: 2, redelivered after 1, next later: HTTP 503",
    ]


def test_a_run_in_doubt_names_the_command_that_decides(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, state="in_doubt") == ["  decide: runs resolve an-id with --retry, --adopt ID, or --abandon"]


def test_text_of_others_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, result="\x1b[2J\x9b1m\r[bold]é") == ["  result: \\x1b[2J\\x9b1m\\x0d[bold]é"]


@pytest.mark.parametrize(("until", "shown"), [(None, ""), ("later", " (until later)")])
def test_what_a_run_waits_for_is_shown_in_full_in_short_and_while_it_is_tracked(
    capsys: pytest.CaptureFixture[str], until: str | None, shown: str
) -> None:
    waiting = WAITING | {"until": until}
    assert printed(capsys, waiting=waiting) == [f"  waiting: slot since then{shown}: 4 runs are in progress"]
    assert (
        str(progress_line(RUN | {"waiting": waiting})) == f"an-id  failed  waiting: slot{shown}: 4 runs are in progress"
    )
    print_page({"runs": [RUN | {"waiting": waiting}, RUN]}, as_json=False)
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["run", "state", "crew", "reason"]
    assert first.split()[:4] == ["an-id", "failed", "research", "slot"]
    assert second.split() == ["an-id", "failed", "research"]


def test_an_empty_list_is_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_page({"runs": []}, as_json=False)
    assert capsys.readouterr() == ("", "no runs\n")


def test_a_member_without_a_value_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    attempt = {"number": 1, "at": "then", "ms": 20, "code": 503, "error": "HTTP 503", "response": "later"}
    delivery = {"id": "d-1", "type": "run.failed", "destination": "exchange:x", "state": "pending", "attempts": 0}
    print_delivery(delivery | {"next_attempt_at": None, "history": [attempt]}, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "d-1  pending",
        "  type: run.failed",
        "  destination: exchange:x",
        "  attempts: 0",
        "  1. then, 20 ms: 503 HTTP 503 later",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"), (172800, "2 d ago"), (-90, "in 90 s")],
)
def test_times_are_relative(seconds: float, shown: str) -> None:
    at = datetime(2026, 11, 30, 14, 2, 11, tzinfo=UTC)
    assert relative_time("2026-11-30T14:02:11.000Z", at.timestamp() + seconds) == shown


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(13, "Permission denied", "/var/lib/bridge"), "/var/lib/bridge: Permission denied"),
        (OSError(98, "error while attempting to bind on ('::1', 1): address in use"), "Address already in use"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("http.port: in use"), "http.port: in use"),
    ],
)
def test_an_error_of_the_system_is_shown_without_its_number(error: OSError, shown: str) -> None:
    assert os_error_text(error) == shown


def test_text_that_is_no_time_is_kept() -> None:
    assert (relative_time("soon", 0.0), relative_time("", 0.0)) == ("soon", "")


def test_short_ids_are_unique_and_of_one_length() -> None:
    ids = ["0193a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b", "0193a1b2-c3d4-7fff-8a6b-7c8d9e0f1a2b"]
    assert list(short_ids(ids[:1] * 2, 0.0)) == ["0193a1b2-c3d4"] * 2
    assert list(short_ids(ids, 0.0)) == ["0193a1b2-c3d4-7e5f", "0193a1b2-c3d4-7fff"]
    same_start = ["0193a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b", "0193a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2c"]
    assert list(short_ids(same_start, 0.0)) == same_start
