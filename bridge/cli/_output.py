"""Print runs and deliveries as text or JSON."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "in_doubt": "yellow",
    "running": "cyan",
    "delivered": "green",
    "dead": "red",
}

_COLUMNS = ("run_id", "crew", "state", "waiting", "accepted_at", "finished_at")
_DELIVERY_COLUMNS = ("id", "type", "destination", "state", "attempts", "next_attempt_at", "last_error")
_FACTS = ("kickoff_id", "accepted_at", "started_at", "finished_at", "error", "result", "result_json")
_MAX_WIDTH = 1000  # columns; fitting a table into 80 would truncate the ids


def print_run(run: dict[str, Any], *, as_json: bool) -> None:
    """Print one run with its history and deliveries."""
    if as_json:
        print_json(run)
        return
    out = Console(soft_wrap=True, highlight=False)
    out.print(Text.assemble((run["run_id"], "bold"), "  ", run["crew"], "  ", _state(run)))
    for name in _FACTS:
        if run.get(name) is not None:
            out.print(f"  {name}: {_fact(run[name])}", markup=False)
    if waiting := run.get("waiting"):
        out.print(f"  waiting: {waiting['reason']} since {waiting['since']}{_waiting_detail(waiting)}", markup=False)
    for entry in run.get("history", []):
        details = " ".join(f"{name}={value}" for name, value in entry.items() if name not in {"at", "event"})
        out.print(f"  {entry['at']}  {entry['event']}  {details}".rstrip(), markup=False)
    for delivery in run.get("deliveries", []):
        problem = f": {delivery['last_error']}" if delivery["last_error"] else ""
        out.print(f"  {delivery['type']} to {delivery['destination']}: {delivery['state']}{problem}", markup=False)


def _fact(value: Any) -> str:
    """Return text as it is, an error as `code: message`, and any other value as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value.keys() == {"code", "message"}:
        return f"{value['code']}: {value['message']}"
    return json.dumps(value, ensure_ascii=False)


def print_page(page: dict[str, Any], *, as_json: bool) -> None:
    """Print a page of runs, one per line, and the option for the next page."""
    if as_json:
        print_json(page)
        return
    table = Table("run", "crew", "state", "waiting", "accepted", "finished", box=None, header_style="bold")
    for run in page["runs"]:
        cells = {name: Text(str(run.get(name) or "")) for name in _COLUMNS}
        waiting = Text((run.get("waiting") or {}).get("reason", ""))
        table.add_row(*(cells | {"state": Text(*_state(run)), "waiting": waiting}).values())
    Console(soft_wrap=True, width=_MAX_WIDTH).print(table)
    if page.get("next_cursor"):
        print(f"more: --cursor {page['next_cursor']}")


def print_delivery(delivery: dict[str, Any], *, as_json: bool) -> None:
    """Print one delivery with its last attempts."""
    if as_json:
        print_json(delivery)
        return
    out = Console(soft_wrap=True, highlight=False)
    out.print(Text.assemble((delivery["id"], "bold"), "  ", _state(delivery)))
    for name in ("type", "destination", "attempts", "next_attempt_at", "last_error", "delivered_at"):
        out.print(f"  {name}: {delivery.get(name)}", markup=False)
    for attempt in delivery["history"]:
        result = " ".join(str(attempt[name]) for name in ("code", "error", "response") if attempt.get(name))
        out.print(
            f"  {attempt.get('number')}. {attempt.get('at')}, {attempt.get('ms')} ms: {result or 'confirmed'}",
            markup=False,
        )


def print_deliveries(page: dict[str, Any], *, as_json: bool) -> None:
    """Print a page of deliveries, one per line, and the option for the next page."""
    if as_json:
        print_json(page)
        return
    table = Table(
        "delivery", "type", "destination", "state", "attempts", "next", "error", box=None, header_style="bold"
    )
    for delivery in page["deliveries"]:
        cells = {name: Text(str(delivery.get(name) or "")) for name in _DELIVERY_COLUMNS}
        table.add_row(*(cells | {"state": Text(*_state(delivery))}).values())
    Console(soft_wrap=True, width=_MAX_WIDTH).print(table)
    if page.get("next_cursor"):
        print(f"more: --cursor {page['next_cursor']}")


def progress_line(run: dict[str, Any]) -> Text:
    """Return one line with a run's state, its progress, and what it waits for."""
    progress = run.get("progress") or {}
    tasks = f"  {progress.get('completed')} of {progress['total']} tasks" if progress.get("total") else ""
    waiting = run.get("waiting")
    waits = f"  waiting: {waiting['reason']}{_waiting_detail(waiting)}" if waiting else ""
    return Text(f"{run['run_id']}  {run['state']}{tasks}{waits}")


def _waiting_detail(waiting: dict[str, Any]) -> str:
    until = f" (until {waiting['until']})" if waiting["until"] else ""
    return f"{until}: {waiting['detail']}"


def _state(run: dict[str, Any]) -> tuple[str, str]:
    """Return the state and its style."""
    return run["state"], STYLES.get(run["state"], "")


def print_json(value: dict[str, Any]) -> None:
    """Print a value as one line of ASCII JSON, which is valid in every locale."""
    print(json.dumps(value))
