"""Find the result of an execution in a response of the crew API, whatever its shape (crew API contract, section 4.5).

Text is a `result`; an object, list, number, or boolean is a `result_json`. In a response with a `state`, an object is
the result itself, also one with a member `output`. Elsewhere an object may be a wrapper around the result; if it
contains more than that, it is kept as well.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.core.json import MAX_DEPTH, deeper_than

_NAMES = ("output", "raw")
_PARSED = ("json_dict", "pydantic")
_PER_TASK = ("tasks", "tasks_output", "task_outputs")
_WRAPPED_PLACES = frozenset({"result", *_NAMES})
_WRAPPER = frozenset({*_NAMES, *_PARSED, *_PER_TASK, "token_usage", "usage_metrics", "execution_time"})


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an execution: text, parsed JSON, or both. `dropped` names the members that could not be kept."""

    text: str | None = None
    parsed: Any = None
    dropped: tuple[str, ...] = ()


def read_result(body: Mapping[str, Any], *, wrapped: bool) -> Result:
    """Return the result in a status or a crew webhook; `wrapped`: whether an object may be a wrapper around it."""
    place, value = next(_candidates(body, wrapped=wrapped), ("", None))
    beside = body.get("result_json")
    if wrapped and isinstance(value, dict) and place in _WRAPPED_PLACES:
        value, inner = _unwrapped(value)
        beside = inner if beside is None else beside
    kept = portable(value)
    if isinstance(kept, str) or kept is None:
        parsed = None if place == "result_json" else portable(beside)
        lost = place != "result_json" and beside is not None and parsed is None
    else:
        parsed, lost = kept, beside is not None and beside != value
    dropped = [place] * (kept is None and value is not None) + ["result_json"] * lost
    dropped += [name for name in _NAMES if name != place and not _is_kept(body.get(name), kept, parsed)]
    return Result(kept if isinstance(kept, str) else None, parsed, tuple(dropped))


def _is_kept(value: Any, *kept: Any) -> bool:
    """Return whether a value adds nothing to what is kept; empty text adds nothing, and `True` is not `1`."""
    return value is None or value == "" or any(type(value) is type(other) and value == other for other in kept)


def portable(value: Any) -> Any:
    """Return the value in a form that every JSON parser accepts; None if it is nested too deep to be stored.

    It is encoded and parsed once here, where a failure costs a value; in the store, it would end the process.
    """
    if isinstance(value, str):
        return clean(value)
    if deeper_than(MAX_DEPTH, value):
        return None
    return json.loads(clean(json.dumps(value, ensure_ascii=False)))


def clean(text: str) -> str:
    """Return text without lone surrogates, which JSON can express but UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def task_lists(body: Mapping[str, Any], *, wrapped: bool) -> Iterator[list[Any]]:
    """Yield the lists of tasks in a status or a crew webhook, likeliest first."""
    for listed in _per_task(body, wrapped=wrapped):
        if isinstance(listed, list) and listed:
            yield listed


def task_result(task: Any) -> Any:
    """Return the result of one task; None if it has none."""
    names = (*_NAMES, *_PARSED) if isinstance(task, dict) else ()
    return next((task[name] for name in names if task.get(name) is not None), None)


def _per_task(body: Mapping[str, Any], *, wrapped: bool) -> Iterator[Any]:
    result = body.get("result")
    inner = result if wrapped and isinstance(result, dict) else {}
    yield from (where.get(name) for where in (inner, body) for name in _PER_TASK)


def _candidates(body: Mapping[str, Any], *, wrapped: bool) -> Iterator[tuple[str, Any]]:
    """Yield where the result may be, likeliest first; null does not count, nor does empty text beside another value."""
    result = body.get("result")
    if result == "" and not all(body.get(name) in (None, "") for name in _NAMES):
        result = None
    inner = result if wrapped and isinstance(result, dict) else {}
    holds_tasks_at_most = inner is result and inner.keys() <= _WRAPPER and not any(_values_in(inner))
    places: Iterator[tuple[str, Any]] = itertools.chain(
        [("result", None if holds_tasks_at_most else result), ("result_json", body.get("result_json"))],
        ((name, body.get(name)) for name in _NAMES),
        (("tasks", _last_task_result(listed)) for listed in _per_task(body, wrapped=wrapped)),
        [("last_executed_task", task_result(body.get("last_executed_task"))), ("result", result)],
    )
    yield from (place for place in places if place[1] is not None)


def _unwrapped(value: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what an object wraps, and what to keep beside it: the object itself, if it contains more than that."""
    inner = next((value[name] for name in (*_NAMES, *_PARSED) if value.get(name) is not None), None)
    ambiguous = not value.keys() <= _WRAPPER or all(value.get(name) is not None for name in _NAMES)
    if inner is None or (ambiguous and not isinstance(inner, str)):
        return value, None
    return inner, value if ambiguous else next((value[name] for name in _PARSED if value.get(name) is not None), None)


def _values_in(value: Mapping[str, Any]) -> Iterator[bool]:
    yield from (value.get(name) is not None for name in (*_NAMES, *_PARSED))


def _last_task_result(tasks: Any) -> Any:
    return task_result(tasks[-1]) if isinstance(tasks, list) and tasks else None
