"""Record every kickoff that reached the sandbox, the polls of each execution, and other traffic.

Tests use the ledger as evidence: a kickoff is recorded before its caller can see a response, so it exposes clients that
crashed, timed out, or sent twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bridge.sandbox.exact_json import read_json, to_json
from bridge.sandbox.execution import Execution
from bridge.sandbox.journal import Journal

Record = dict[str, Any]
_EXECUTION_FIELDS = tuple(field.name for field in fields(Execution) if field.name not in ("inputs", "meta"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One POST. `answered` is the HTTP code sent, None if no response was sent; `received_at` is in epoch seconds.

    `inputs` is None when the body could not be read, `execution` is None when nothing was started.
    """

    number: int
    received_at: float
    answered: int | None
    inputs: Mapping[str, object] | None
    meta: object
    execution: Execution | None

    def over(self, now: float) -> bool:
        """Return whether its execution, if any, has ended."""
        return self.execution is None or self.execution.over(now)


class Ledger:
    """Keeps entries and poll counts in memory; with a file, entries are also written to it and restored at startup."""

    def __init__(self, path: Path | None = None) -> None:
        self._journal = Journal(path) if path else None
        self._entries = _from_lines(self._journal.lines) if self._journal else []
        self._last_number = max((entry.number for entry in self._entries), default=0)
        self._by_id = _by_id(self._entries)
        self._polls: Counter[str] = Counter()
        self._end_seen_at: dict[str, float] = {}

    def next_number(self) -> int:
        """Return the number for the next entry, counting from 1, never reused."""
        self._last_number += 1
        return self._last_number

    async def record(self, entry: Entry) -> None:
        """Add an entry; it is visible immediately, and durable when this returns."""
        self._entries.append(entry)
        if entry.execution is not None:
            self._by_id[entry.execution.kickoff_id] = entry
        await self._write(entry)

    async def update(self, execution: Execution) -> None:
        """Persist the current state of this execution; the last line with a given number wins."""
        await self._write(self._by_id[execution.kickoff_id])

    def execution(self, kickoff_id: str) -> Execution | None:
        """Return the execution with this ID, or None if it is unknown."""
        entry = self._by_id.get(kickoff_id)
        return entry.execution if entry else None

    def executions(self) -> Iterator[Execution]:
        """Iterate over all known executions in the order of their kickoffs."""
        return (entry.execution for entry in self._by_id.values() if entry.execution)

    def latest_id(self) -> str | None:
        """Return the ID assigned last, or None."""
        return next(reversed(self._by_id), None)

    def count_poll(self, kickoff_id: str) -> None:
        """Count one status poll of this ID, known or not."""
        self._polls[kickoff_id] += 1

    def mark_reported(self, execution: Execution, now: float) -> None:
        """Record that the end is being reported; keep the time of the first report."""
        self._end_seen_at.setdefault(execution.kickoff_id, now)

    async def clear(self, now: float) -> None:
        """Remove ended executions and all poll counts; keep running executions."""
        self._entries = [entry for entry in self._entries if not entry.over(now)]
        self._by_id = _by_id(self._entries)
        self._polls.clear()
        self._end_seen_at.clear()
        if self._journal is not None:
            await self._journal.replace(lambda: [_to_line(entry) for entry in self._entries])

    def report(self, now: float) -> dict[str, object]:
        """Return the ledger as a JSON document.

        `count` is the number of POSTs, `started` how many of them began an execution. Each entry carries `ended_at`
        (when its execution really ended, None before) and `end_seen_at` (the first poll that reported it).
        """
        return {
            "count": len(self._entries),
            "started": len(self._by_id),
            "kickoffs": [self._row(entry, now) for entry in self._entries],
            "polls": self._polls.total(),
            "polls_by_id": dict(self._polls),
        }

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()

    async def _write(self, entry: Entry) -> None:
        if self._journal is not None:
            await self._journal.append(_to_line(entry))

    def _row(self, entry: Entry, now: float) -> dict[str, object]:
        row = _to_dict(entry)
        ended = entry.execution is not None and entry.execution.over(now)
        row["ended_at"] = row["ends_at"] if ended else None
        row["end_seen_at"] = self._end_seen_at.get(entry.execution.kickoff_id) if entry.execution else None
        return row


def _by_id(entries: Iterable[Entry]) -> dict[str, Entry]:
    return {entry.execution.kickoff_id: entry for entry in entries if entry.execution}


def _to_dict(entry: Entry) -> dict[str, object]:
    execution = entry.execution
    return {
        "number": entry.number,
        "received_at": entry.received_at,
        "answered": entry.answered,
        "inputs": entry.inputs,
        "meta": entry.meta,
        **{name: getattr(execution, name) if execution else None for name in _EXECUTION_FIELDS},
    }


def _to_line(entry: Entry) -> bytes:
    return to_json(_to_dict(entry))


def _from_lines(lines: Iterable[bytes]) -> list[Entry]:
    entries = map(_from_line, lines)
    return list({entry.number: entry for entry in entries}.values())


def _from_line(line: bytes) -> Entry:
    row: dict[str, Any] = read_json(line)
    execution = None
    if row["kickoff_id"] is not None:
        names = ("inputs", "meta", *_EXECUTION_FIELDS)
        execution = Execution(**{name: row[name] for name in names if name in row})
    return Entry(row["number"], row["received_at"], row["answered"], row["inputs"], row["meta"], execution)


class Traffic:
    """Keeps the resumes, stops, and flow answers received, and the webhooks sent, until a restart."""

    def __init__(self) -> None:
        self.resumes: list[Record] = []
        self.stops: list[Record] = []
        self.flow_responses: list[Record] = []
        self.webhooks: list[Record] = []

    def report(self) -> dict[str, list[Record]]:
        """Return all lists by name."""
        return {
            "resumes": self.resumes,
            "stops": self.stops,
            "flow_responses": self.flow_responses,
            "webhooks": self.webhooks,
        }

    def clear(self) -> None:
        """Remove all records."""
        for records in self.report().values():
            records.clear()
