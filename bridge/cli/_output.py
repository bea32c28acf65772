"""Print runs and deliveries as text or JSON."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bridge.cli._tables import (
    STYLES,
    Column,
    Json,
    as_line,
    as_text,
    console,
    print_table,
    relative_time,
    relative_times,
    short_ids,
    table,
)
from bridge.core.runs.model import State

RUNS = (
    Column("run", 1, ("run_id",), short_ids),
    Column("state", 2, ("state",)),
    Column("crew", 3, ("crew",), least=12),
    Column("reason", 4, ("waiting.reason", "error.code")),
    Column("accepted", 5, ("accepted_at",), relative_times),
    Column("finished", 7, ("finished_at",), relative_times),
    Column("key", 6, ("idempotency_key",), least=10),
    Column("kickoff id", 10, ("kickoff_id",)),
    Column("detail", 9, ("waiting.detail", "error.message"), least=16),
)
DELIVERIES = (
    Column("delivery", 1, ("id",)),
    Column("state", 2, ("state",)),
    Column("destination", 3, ("destination",), least=14),
    Column("attempts", 5, ("attempts",)),
    Column("next", 4, ("next_attempt_at",), relative_times),
    Column("delivered", 7, ("delivered_at",), relative_times),
    Column("error", 6, ("last_error",), least=14),
    Column("type", 8, ("type",)),
)

RECEIVERS = (
    Column("receiver", 1, ("receiver",)),
    Column("failing since", 2, ("failing_since",), relative_times),
    Column("paused", 3, ("paused_at",), relative_times),
)

_EVENT_TYPE, _SHORT_ID, _CREW = 22, 13, 8  # least widths in the line of an event; most names fit
MAX_TASK_NAME = 40  # characters; the library calls a task without a name by its whole description

_FACTS = ("retry_of", "idempotency_key", "kickoff_id", "accepted_at", "started_at", "finished_at")
_TIMES = frozenset({"accepted_at", "started_at", "finished_at", "next_attempt_at", "delivered_at", "asked_at"})
_VALUES = ("polls", "meta", "usage", "restore_from", "error", "result", "result_json")


def print_run(run: Json, *, as_json: bool) -> None:
    """Print one run with everything that is known about it."""
    if as_json:
        print_json(run)
    else:
        console().print(run_view(run, time.time()))


def run_view(run: Json, now: float) -> RenderableType:
    """Return a run as text."""
    head = Text.assemble((run["run_id"], "bold"), "  ", as_line(run["crew"]), "  ", _state(run))
    return Group(head, *(Text(f"  {line}".replace("\n", "\n    ")) for line in _run_lines(run, now)))


def _run_lines(run: Json, now: float) -> Iterator[str]:
    yield from _facts(run, _FACTS, now)
    if run.get("progress") is not None:
        yield f"progress: {_progress(run['progress'])}"
    yield from _facts(run, _VALUES, now)
    yield from (f"warning: {_fact(warning)}" for warning in run.get("warnings") or [])
    if waiting := run.get("waiting"):
        yield f"waiting: {waiting['reason']} since {_time(waiting['since'], now)}{_waiting_detail(waiting)}"
    if question := run.get("question"):
        yield from _question_lines(run["run_id"], question, now)
    if run["state"] == State.IN_DOUBT:
        yield f"decide: runs resolve {run['run_id']} with --retry, --adopt ID, or --abandon"
    yield from _section("tasks", map(_task_line, run.get("tasks") or []))
    yield from _section("history", map(_history_line, run.get("history") or []))
    yield from _section("deliveries", (_delivery_line(delivery, now) for delivery in run.get("deliveries") or []))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield a title and indented lines; nothing without lines."""
    for number, line in enumerate(lines):
        if not number:
            yield f"{title}:"
        yield f"  {line}"


def _task_line(task: Json) -> str:
    return "  ".join(as_line(task[name]) for name in ("finished_at", "name", "agent") if task.get(name))


def _history_line(entry: Json) -> str:
    details = " ".join(f"{name}={as_line(value)}" for name, value in entry.items() if name not in {"at", "event"})
    return f"{as_line(entry['at'])}  {as_line(entry['event'])}  {details}".rstrip()


def _facts(item: Json, names: tuple[str, ...], now: float) -> Iterator[str]:
    for name in names:
        if item.get(name) not in (None, {}, []):
            yield f"{name}: {_time(item[name], now) if name in _TIMES else _fact(item[name])}"


def _question_lines(run_id: str, question: Json, now: float) -> Iterator[str]:
    yield f"question: {question.get('number')}, {question.get('stage')} since {_time(question.get('asked_at'), now)}"
    yield from (f"  {line}" for line in _facts(question, ("task_id", "message", "options", "output", "problem"), now))
    if question.get("stage") == "open":
        yield f"  answer: runs resume {run_id} FEEDBACK, or --approve"


def _delivery_line(delivery: Json, now: float) -> str:
    line = f"{delivery['id']}  {delivery['state']}  to {as_line(delivery['destination'])}"
    if delivery.get("attempts"):
        line += f", attempts: {delivery['attempts']}"
    if delivery.get("earlier_attempts"):
        line += f", redelivered after {delivery['earlier_attempts']}"
    if delivery.get("next_attempt_at"):
        line += f", next {relative_time(delivery['next_attempt_at'], now)}"
    elif delivery["state"] == "pending":
        line += ", its receiver is paused"
    return f"{line}: {as_line(delivery['last_error'])}" if delivery.get("last_error") else line


def _time(at: Any, now: float) -> str:
    """Return a time as in JSON, and how long ago it was."""
    text = as_line(at)
    relative = relative_time(text, now)
    return text if relative == text else f"{text} ({relative})"


def _progress(progress: Any) -> str:
    if isinstance(progress, dict) and progress.get("total"):
        return f"{progress.get('completed')} of {progress['total']} tasks"
    return as_text(progress)


def _fact(value: Any) -> str:
    """Return an error or warning as `code: message`, and any other value like `as_text`."""
    if isinstance(value, dict) and value.keys() == {"code", "message"}:
        return as_text(f"{value['code']}: {value['message']}")
    return as_text(value)


def print_page(page: Json, *, as_json: bool, wide: bool = False) -> None:
    """Print a page of runs, one per line, and the option for the next page."""
    _print_page(page, "runs", RUNS, as_json=as_json, wide=wide)


def print_deliveries(page: Json, *, as_json: bool, wide: bool = False) -> None:
    """Print a page of deliveries, one per line, and the option for the next page."""
    _print_page(page, "deliveries", DELIVERIES, as_json=as_json, wide=wide)


def runs_view(page: Json, width: int | None, now: float) -> RenderableType:
    """Return a page of runs as a table."""
    return table(RUNS, page["runs"], width, now) if page["runs"] else Text("no runs")


def _print_page(page: Json, name: str, columns: tuple[Column, ...], *, as_json: bool, wide: bool) -> None:
    if as_json:
        print_json(page)
        return
    print_table(name, columns, page[name], wide=wide)
    if page.get("next_cursor"):
        print(f"more: --cursor {page['next_cursor']}")


def print_delivery(delivery: Json, *, as_json: bool) -> None:
    """Print one delivery with its last attempts."""
    if as_json:
        print_json(delivery)
        return
    out, now = console(), time.time()
    out.print(Text.assemble((delivery["id"], "bold"), "  ", _state(delivery)))
    names = ("type", "destination", "attempts", "next_attempt_at", "last_error", "delivered_at")
    for line in _facts(delivery, names, now):
        out.print(f"  {line}", markup=False)
    for attempt in delivery["history"]:
        result = " ".join(as_line(attempt[name]) for name in ("code", "error", "response") if attempt.get(name))
        out.print(
            f"  {attempt.get('number')}. {attempt.get('at')}, {attempt.get('ms')} ms: {result or 'confirmed'}",
            markup=False,
        )


def print_event(event: Json, *, as_json: bool) -> None:
    """Print an event in one line."""
    if as_json:
        print_json(event)
    else:
        out = console()
        out.print(event_line(event, out.width if out.is_terminal else None))


def event_line(event: Json, width: int | None) -> Text:
    """Return the time (UTC) of an event, its type, run, and crew, and what happened; None: shorten nothing."""
    data = event.get("data") or {}
    at, type_, crew, run_id = map(as_line, (event.get("time"), event.get("type"), data.get("crew"), data.get("run_id")))
    if width is not None:
        at, [run_id] = at[11:19], short_ids([run_id], 0.0)
    style = STYLES.get(type_.partition(".")[2], "")
    rest = f"  {run_id:<{_SHORT_ID}}  {crew:<{_CREW}}  {_event_detail(data)}"
    line = Text.assemble(f"{at}  ", (f"{type_:<{_EVENT_TYPE}}", style), rest)
    line.rstrip()
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    return line


def _event_detail(data: Json) -> str:
    """Return what an event reports: an error, a question, a problem of a receiver, or the tasks that are done."""
    if error := data.get("error") or (data if "code" in data else None):
        return as_line(f"{error.get('code')}: {error.get('message')}")
    if question := data.get("question"):
        return as_line(question.get("message") or question.get("output"))
    if data.get("receiver"):
        return as_line(f"{data['receiver']}: {data.get('last_error')}")
    return as_line(_progress(data.get("progress"))) if data.get("state") == State.RUNNING else ""


def print_counts(counts: Json, *, as_json: bool, note: str = "") -> None:
    """Print how many objects matched a filter, and on how many a command acted."""
    if as_json:
        print_json(counts)
    else:
        print(f"{counts['matched']} matched, {counts['done']} done{note}")


def print_receivers(listed: Json, *, as_json: bool, wide: bool = False) -> None:
    """Print the failing and paused receivers, one per line."""
    if as_json:
        print_json(listed)
    else:
        print_table("failing receivers", RECEIVERS, listed["receivers"], wide=wide)


def progress_line(run: Json) -> Text:
    """Return one line with a run's state, its progress, and what it waits for."""
    tasks = f"  {progress}" if (progress := progress_text(run)) else ""
    waiting = run.get("waiting")
    waits = f"  waiting: {waiting['reason']}{_waiting_detail(waiting)}" if waiting else ""
    return Text(f"{run['run_id']}  {run['state']}{tasks}{waits}")


def progress_text(run: Json) -> str:
    """Return the finished tasks of a run and the current one, such as `2/3 review_task`; nothing if not reported."""
    progress = run.get("progress") or {}
    if not isinstance(progress, dict) or not progress.get("total"):
        return ""
    current = progress.get("current")
    name = current.get("name") if isinstance(current, dict) else current
    return f"{progress.get('completed') or 0}/{progress['total']} {as_line(name)[:MAX_TASK_NAME]}".rstrip()


def _waiting_detail(waiting: Json) -> str:
    until = f" (until {waiting['until']})" if waiting["until"] else ""
    return f"{until}: {as_line(waiting['detail'])}"


def _state(run: Json) -> tuple[str, str]:
    """Return the state and its style."""
    return run["state"], STYLES.get(run["state"], "")


def print_json(value: Json) -> None:
    """Print a value as one line of ASCII JSON, which is valid in every locale."""
    print(json.dumps(value), flush=True)
