"""The tables of the command line at two widths, as docs/cli-screens.md shows them.

`python -m tests.component.test_cli_screens` rewrites the page.
"""

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from bridge.cli import _output, crews, dead_letters
from bridge.cli._tables import Column, table

CAPTURED = "## What happened to order 42?"  # from here on, tests/system/acceptance/test_cli.py compares the page
PAGE = Path(__file__).parents[2] / "docs" / "cli-screens.md"
NOW = datetime.fromisoformat("2026-11-30T14:05:00Z").timestamp()
WIDTHS = (80, 120)


def a_run(number: int, state: str, at: str, **members: Any) -> dict[str, Any]:
    defaults = {"waiting": None, "error": None, "kickoff_id": None, "idempotency_key": None, "finished_at": None}
    run_id = f"019ad4f{number}-7c8d-7e9f-8a0b-1c2d3e4f5a6b"
    accepted_at = f"2026-11-{at}.250Z"
    return {"run_id": run_id, "crew": "research", "state": state, "accepted_at": accepted_at, **defaults, **members}


def waits(reason: str, detail: str, since: str, until: str | None = None) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "since": since, "until": until}


RUNS = [
    a_run(
        9, "accepted", "30T14:04:48", idempotency_key="order-1042",
        waiting=waits("slot", "16 runs of the crew are in progress, of at most 16", "2026-11-30T14:04:48.250Z"),
    ),
    a_run(8, "running", "30T14:02:11", idempotency_key="order-1041", kickoff_id="7d0f6a52-4d29-4a1e-9d5c-0a7c3f5b1e88"),
    a_run(
        7, "waiting_for_human", "30T13:40:00", crew="triage", kickoff_id="2b1c9e07-91a4-4f1f-8a55-6a0f6c0d9b21",
        waiting=waits("human", "the execution waits for human input", "2026-11-30T13:41:05.000Z"),
    ),
    a_run(
        6, "in_doubt", "30T11:58:20", idempotency_key="order-1007",
        waiting=waits("in_doubt", "it is unknown whether the POST started an execution", "2026-11-30T11:58:21.000Z"),
    ),
    a_run(
        5, "failed", "29T09:12:44", idempotency_key="order-0994", kickoff_id="9f1e77ab-52f8-4e06-9df0-2b6a6d3c5e10",
        finished_at="2026-11-29T09:14:02.118Z",
        error={"code": "execution_failed", "message": "ValueError: no sources found for 'tidal power'"},
    ),
    a_run(
        4, "succeeded", "21T08:00:00", idempotency_key="order-0871", kickoff_id="c3a8d1f4-0e6b-4b7e-8d0f-5f2a9b7c6d11",
        finished_at="2026-11-21T08:03:31.900Z",
    ),
]  # fmt: skip
DELIVERIES = [
    {
        "id": f"{RUNS[4]['run_id']}-failed-2", "type": "run.failed", "destination": "https://shop.example.com/done",
        "state": "pending", "attempts": 3, "next_attempt_at": "2026-11-30T14:35:00.000Z", "delivered_at": None,
        "last_error": "HTTP 503: maintenance until 15:00",
    },
    {
        "id": f"{RUNS[5]['run_id']}-succeeded-1", "type": "run.succeeded", "destination": "exchange:research.succeeded",
        "state": "delivered", "attempts": 1, "next_attempt_at": None, "delivered_at": "2026-11-21T08:03:31.950Z",
        "last_error": None,
    },
]  # fmt: skip
MESSAGES = [
    {
        "id": "order-1043", "time": "2026-11-30T13:59:10.000Z", "reason": "unknown_crew", "routing_key": "reserach",
        "size": 412, "detail": "no crew has this name",
    },
    {
        "id": "f1a2b3c4d5e6f708", "time": "2026-11-30T08:05:00.000Z", "reason": "invalid_json",
        "routing_key": "research", "size": 17, "detail": "the body is not valid JSON",
    },
]  # fmt: skip
RECEIVERS: list[dict[str, Any]] = [
    {"receiver": "https://shop.example.com:443", "failing_since": "2026-11-30T13:20:00.000Z", "paused_at": None},
    {
        "receiver": "https://crm.example.com:443", "failing_since": "2026-11-24T07:00:00.000Z",
        "paused_at": "2026-11-29T07:00:00.000Z",
    },
]  # fmt: skip
CREWS: list[dict[str, Any]] = [
    {
        "name": "research", "kind": "crew", "paused": None, "slots": {"used": 16, "limit": 16}, "polls_overdue": 0,
        "runs": {"accepted": 42, "starting": 0, "running": 15, "in_doubt": 1, "waiting_for_human": 0},
        "budget": {"used": 380, "runs": 500, "per": 86400.0}, "request_rate": {"now": 20.0, "limit": 20.0},
        "run_times": {"count": 1204, "median": 74.2, "p90": 131.0, "quantiles": []},
    },
    {
        "name": "triage", "kind": "flow", "paused": "HTTP 401", "slots": None, "polls_overdue": 0, "runs": None,
        "budget": None, "request_rate": {"now": 2.5, "limit": 10.0}, "run_times": None,
    },
]  # fmt: skip
SHOWN = RUNS[2] | {
    "progress": {"completed": 2, "total": 5},
    "started_at": "2026-11-30T13:40:01.900Z",
    "polls": 12,
    "meta": {"order": "1031", "tier": "gold"},
    "usage": {"total_tokens": 5120},
    "result": None,
    "question": {
        "number": 1, "task_id": "review", "output": "Three sources name 2031, one names 2035.\nWhich one applies?",
        "message": None, "options": [], "asked_at": "2026-11-30T13:41:05.000Z", "stage": "open", "problem": None,
    },
    "tasks": [{"name": "collect", "agent": "researcher", "output": "…", "finished_at": "2026-11-30T13:40:40.000Z"}],
    "history": [
        {"at": "2026-11-30T13:40:00.250Z", "event": "accepted", "by": "client/shop"},
        {"at": "2026-11-30T13:40:00.300Z", "event": "posted", "attempt": 1},
        {"at": "2026-11-30T13:40:00.700Z", "event": "answered"},
        {"at": "2026-11-30T13:41:05.000Z", "event": "question", "question": 1},
    ],
    "deliveries": [
        {
            "id": f"{RUNS[2]['run_id']}-waiting_for_human-1", "type": "run.waiting_for_human", "state": "delivered",
            "destination": "exchange:triage.waiting_for_human", "attempts": 1, "next_attempt_at": None,
            "last_error": None,
        },
    ],
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {"time": "2026-11-30T13:40:02.100Z", "type": "run.started", "data": RUNS[2]},
    {"time": "2026-11-30T13:40:40.900Z", "type": "run.progress", "data": RUNS[1] | {"progress": SHOWN["progress"]}},
    {"time": "2026-11-30T13:41:05.000Z", "type": "run.waiting_for_human", "data": SHOWN},
    {"time": "2026-11-30T13:44:51.230Z", "type": "run.failed", "data": RUNS[4]},
    {
        "time": "2026-11-30T13:59:10.000Z", "type": "request.rejected",
        "data": {"code": "unknown_crew", "message": "no crew has this name", "crew": "reserach"},
    },
    {
        "time": "2026-11-30T14:01:00.000Z", "type": "delivery.paused",
        "data": RECEIVERS[1] | {"crew": "research", "last_error": "HTTP 503"},
    },
    {"time": "2026-11-30T14:03:31.900Z", "type": "run.succeeded", "data": RUNS[5]},
]  # fmt: skip
TABLES: dict[str, tuple[tuple[Column, ...], list[dict[str, Any]]]] = {
    "runs list": (_output.RUNS, RUNS),
    "deliveries list": (_output.DELIVERIES, DELIVERIES),
    "receivers list": (_output.RECEIVERS, RECEIVERS),
    "crews list": (crews.CREWS, list(map(crews.crew_row, CREWS))),
    "dead list": (dead_letters.MESSAGES, MESSAGES),
}


def printed(shown: Any, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, color_system=None).print(shown)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def page() -> Iterator[str]:
    yield "# Screens of the command line"
    yield ""
    yield "Columns that do not fit are dropped, the least important first. `--wide` prints all of them in full."
    for name, (columns, items) in TABLES.items():
        for width in WIDTHS:
            yield from ("", f"## `{name}` at {width} columns", "", "```text")
            yield from printed(table(columns, items, width, NOW), width)
            yield "```"
    yield from ("", "## `events` at 80 columns", "", "```text")
    for event in EVENTS:
        yield from printed(_output.event_line(event, 80), 80)
    yield "```"
    yield from ("", "## `runs show`", "", "```text")
    yield from printed(_output.run_view(SHOWN, NOW), 200)
    yield "```"


def test_the_page_shows_the_screens() -> None:
    assert PAGE.read_text().partition(CAPTURED)[0].rstrip().splitlines() == list(page())


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_table_fits_the_terminal(name: str, width: int) -> None:
    lines = printed(table(*TABLES[name], width, NOW), width)
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_fits_the_terminal_and_is_whole_elsewhere(event: dict[str, Any]) -> None:
    [line], [whole] = (printed(_output.event_line(event, width), 1000) for width in (60, None))
    assert cell_len(line) <= 60
    assert whole.startswith(f"{event['time']}  {event['type']} ")
    assert event["data"].get("run_id", "") in whole


@pytest.mark.parametrize("name", TABLES)
def test_a_wide_table_shortens_nothing(name: str) -> None:
    columns, items = TABLES[name]
    header, *rows = printed(table(columns, items, None, NOW), 1000)
    assert all(column.title in header for column in columns)
    shown = [value for item in items for value in item.values() if isinstance(value, str)]
    assert [value for value in shown if not any(value in row for row in rows)] == []


if __name__ == "__main__":
    _, title, captured = PAGE.read_text().partition(CAPTURED)
    PAGE.write_text("".join(f"{line}\n" for line in page()) + f"\n{title}{captured}")
