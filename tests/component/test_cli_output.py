"""Output of the commands for people."""

from typing import Any

import pytest

from bridge.cli._output import print_run

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
