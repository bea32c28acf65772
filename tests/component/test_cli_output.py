"""Output of the commands for people."""

from typing import Any

import pytest

from bridge.cli._output import print_page, print_run, progress_line

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


def test_the_history_is_printed_one_entry_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    history = [{"at": "then", "event": "answered"}, {"at": "now", "event": "ended", "state": "failed", "error": "lost"}]
    assert printed(capsys, history=history) == ["  then  answered", "  now  ended  state=failed error=lost"]


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
    assert header.split() == ["run", "crew", "state", "waiting", "accepted", "finished"]
    assert (first.split(), second.split()) == (["an-id", "research", "failed", "slot"], ["an-id", "research", "failed"])
