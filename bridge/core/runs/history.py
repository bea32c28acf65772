"""The history of a run: what happened to it, recorded by the decisions that made it happen.

An entry is a JSON object, encoded when it is recorded, because runs are read and written far more often than their
history is shown. It contains no inputs, no answers, and no text of the crew API.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from bridge.core.json import compact
from bridge.core.runs.model import Run

HistoryEvent = Literal[
    "accepted", "held", "posted", "answered", "refused", "deferred", "in_doubt", "evidence_overdue", "execution_found",
    "command", "first_poll", "question", "default_answer", "answer_sent", "answer_deferred", "answer_unconfirmed",
    "answered_elsewhere", "last_poll", "ended", "late_result", "event_created", "delivered", "omitted",
]  # fmt: skip
"""What a history contains; `event_created`, `delivered`, and `omitted` are added only where it is shown."""

Entries = tuple[bytes, ...]

MAX_ENTRIES = 40
MAX_BYTES = 4096  # of all entries together
KEEP_FIRST = 8  # entries from the beginning that stay when the history is full; the others are the newest
_MAX_TIME = 253_402_300_800  # the year 10000, which no timestamp can express
_HALF_MICROSECOND = 0.0005  # in milliseconds; times are cut to these, as wherever they are shown
MAX_TEXT = 100  # characters of one text; three of the longest, with every character escaped, are well below MAX_BYTES


def added(entries: Entries, event: HistoryEvent, at: float, **details: str | float | None) -> Entries:
    """Return the entries with one more; if they are full, older ones between the first and the newest are left out."""
    shown = {name: _shortened(value) for name, value in details.items() if value is not None}
    new = [*entries, compact({"at": int(at * 1000 + _HALF_MICROSECOND) / 1000, "event": event, **shown})]
    while len(new) > MAX_ENTRIES or sum(map(len, new)) + len(new) > MAX_BYTES:
        _leave_out(new, min(KEEP_FIRST, len(new) - 2))
    return tuple(new)


def record(run: Run, event: HistoryEvent, at: float, **details: str | float | None) -> Run:
    """Return the run with one more entry, where nothing else of it changes at the same time."""
    return replace(run, history=added(run.history, event, at, **details))


def decoded(entries: Entries) -> list[dict[str, Any]]:
    """Return the entries, oldest first; an entry `omitted` stands for those left out before the next one.

    What cannot be decoded, left by a bug or a manual edit, is skipped.
    """
    shown: list[dict[str, Any]] = []
    for entry in filter(None, map(_decode, entries)):
        if number := entry.pop("omitted", 0):
            shown.append({"at": entry["at"], "event": "omitted", "entries": number})
        shown.append(entry)
    return shown


def last_reason(entries: Entries, event: HistoryEvent) -> str | None:
    """Return the reason in the newest entry of this event, if there is one."""
    found = (entry for each in reversed(entries) if (entry := _decode(each)) and entry.get("event") == event)
    reason: str | None = next(found, {}).get("reason")
    return reason


def without(entries: Entries, events: Sequence[HistoryEvent]) -> Entries:
    """Return the entries of other events, without decoding them; quotes within a text are escaped."""
    marks = [f'"event":"{event}"'.encode() for event in events]
    return tuple(entry for entry in entries if not any(mark in entry for mark in marks))


def _leave_out(entries: list[bytes], index: int) -> None:
    """Remove an entry, and count it in the next one."""
    removed, following = _decode(entries[index]), _decode(entries[index + 1])
    number = removed.get("omitted", 0) + 1 + following.get("omitted", 0)
    entries[index : index + 2] = [compact({**following, "omitted": number})]


def _decode(entry: bytes) -> dict[str, Any]:
    """Return an entry; one without members if it cannot be decoded."""
    try:
        value = json.loads(entry)
    except (ValueError, RecursionError):
        return {}
    return value if _is_entry(value) else {}


def _is_entry(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    at, omitted = value.get("at"), value.get("omitted", 0)
    return isinstance(at, int | float) and 0 <= at < _MAX_TIME and isinstance(omitted, int) and "event" in value


def _shortened(value: str | float) -> str | float:
    if not isinstance(value, str) or len(value) <= MAX_TEXT:
        return value
    return value[: MAX_TEXT - 1] + "…"
