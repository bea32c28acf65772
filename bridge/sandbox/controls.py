"""Read the inputs with which a caller controls one execution.

Crews ignore extra inputs, so any client can send these without knowing about the sandbox. A client may convert every
input to text, so text that contains the value is accepted in place of the value.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from bridge.sandbox.exact_json import read_json

PREFIX = "sandbox_"
MOST_QUESTIONS = 100
"""The maximum number of questions per execution."""
MOST_BYTES = 64 * 1024 * 1024
"""The maximum size of a result, in bytes."""

Outcome = Literal["success", "failure", "revoked"]


@dataclass(frozen=True, slots=True)
class Controls:
    """The values set by the caller; None leaves the choice to the settings and the RNG.

    `seconds` is the run time, `error` the text of the exception that ends the execution, `result_bytes` the size of its
    result. Unnamed tasks are called by their whole description, as the library does.
    """

    seconds: float | None = None
    outcome: Outcome | None = None
    result: object = None
    result_json: dict[str, object] | None = None
    result_bytes: int = 0
    human_questions: int | None = None
    error: str | None = None
    unnamed_tasks: bool = False


def read_controls(inputs: Mapping[str, object]) -> Controls:
    """Read the inputs that begin with `sandbox_`; raise ValueError naming the first invalid one."""
    return Controls(
        seconds=_seconds(inputs.get("sandbox_seconds")),
        outcome=_outcome(inputs.get("sandbox_outcome")),
        result=_any_json(inputs.get("sandbox_result")),
        result_json=_object(inputs.get("sandbox_result_json")),
        result_bytes=_whole(inputs.get("sandbox_result_bytes", 0), "sandbox_result_bytes", MOST_BYTES),
        human_questions=_questions(inputs.get("sandbox_human_questions")),
        error=_text(inputs.get("sandbox_error")),
        unnamed_tasks=str(inputs.get("sandbox_unnamed_tasks", "")).casefold() == "true",
    )


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    seconds = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"sandbox_seconds must be a number of at least 0; got {value!r}")
    return seconds


def _outcome(value: object) -> Outcome | None:
    match value:
        case None | "success" | "failure" | "revoked":
            return value
        case _:
            raise ValueError(f"sandbox_outcome must be success, failure or revoked; got {value!r}")


def _questions(value: object) -> int | None:
    return None if value is None else _whole(value, "sandbox_human_questions", MOST_QUESTIONS)


def _whole(value: object, name: str, most: int) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}; got {value!r}")
    return value


def _text(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise ValueError(f"sandbox_error must be text; got {value!r}")
    return value


def _object(value: object) -> dict[str, object] | None:
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError:
            raise ValueError("sandbox_result_json must be a JSON object") from None
    if value is not None and not isinstance(value, dict):
        raise ValueError("sandbox_result_json must be a JSON object")
    return value


def _any_json(value: object) -> object:
    """Return a value of any JSON type; decode text that is valid JSON, because crews accept only text."""
    if isinstance(value, str):
        with suppress(ValueError):
            return read_json(value)
    return value
