"""The ledger: every kickoff that reached the sandbox, and how often each execution was looked at.

It is the witness of tests: a kickoff is in it before its caller can know of an answer, so a client that crashed, timed
out or sent twice is found out here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from bridge.sandbox.execution import Execution
from bridge.sandbox.journal import Journal

_OF_THE_EXECUTION = tuple(field.name for field in fields(Execution) if field.name not in ("inputs", "meta"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One POST. `answered` is its HTTP code, None if the sandbox hung up; `received_at` is in epoch seconds.

    `inputs` is None when the body could not be read, `execution` is None when nothing was started.
    """

    number: int
    received_at: float
    answered: int | None
    inputs: Mapping[str, object] | None
    meta: object
    execution: Execution | None

    def over(self, now: float) -> bool:
        """Say whether nothing of it is still going on."""
        return self.execution is None or self.execution.over(now)


class Ledger:
    """Entries and looks in memory; entries also in a file, if there is one, and read back from it at the start."""

    def __init__(self, path: Path | None = None) -> None:
        self._journal = Journal(path) if path else None
        self._entries = _from_lines(self._journal.lines) if self._journal else []
        self._last_number = max((entry.number for entry in self._entries), default=0)
        self._by_id = _by_id(self._entries)
        self._polls: Counter[str] = Counter()
        self._end_seen_at: dict[str, float] = {}

    def next_number(self) -> int:
        """Return the number for the next entry, counting from 1, never given twice."""
        self._last_number += 1
        return self._last_number

    async def record(self, entry: Entry) -> None:
        """Add an entry; it is known at once, and durable when this returns."""
        self._entries.append(entry)
        if entry.execution is not None:
            self._by_id[entry.execution.kickoff_id] = entry
        await self._write(entry)

    async def changed(self, execution: Execution) -> None:
        """Make durable what has become of this execution; of several lines with one number the last counts."""
        await self._write(self._by_id[execution.kickoff_id])

    def execution(self, kickoff_id: str) -> Execution | None:
        """Return the execution with this id, if it is known."""
        entry = self._by_id.get(kickoff_id)
        return entry.execution if entry else None

    def executions(self) -> Iterator[Execution]:
        """Iterate over all executions that are known, in the order of their kickoffs."""
        return (entry.execution for entry in self._by_id.values() if entry.execution)

    def latest_id(self) -> str | None:
        """Return the id that was given last, if any was."""
        return next(reversed(self._by_id), None)

    def look(self, kickoff_id: str) -> None:
        """Count one look at the status of this id, known or not."""
        self._polls[kickoff_id] += 1

    def saw(self, execution: Execution, now: float) -> None:
        """Note that somebody is being told of this execution; the first time after its end is kept."""
        if execution.over(now):
            self._end_seen_at.setdefault(execution.kickoff_id, now)

    async def clear(self, now: float) -> None:
        """Forget all that is over, and all looks; executions under way stay known."""
        self._entries = [entry for entry in self._entries if not entry.over(now)]
        self._by_id = _by_id(self._entries)
        self._polls.clear()
        self._end_seen_at.clear()
        if self._journal is not None:
            await self._journal.replace(lambda: [_to_line(entry) for entry in self._entries])

    def report(self, now: float) -> dict[str, object]:
        """Return all of it as a JSON document.

        `count` is the number of POSTs, `started` how many of them began an execution. Each entry carries `ended_at`
        (when its execution really ended, None before) and `end_seen_at` (the first look after that).
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
        **{name: getattr(execution, name) if execution else None for name in _OF_THE_EXECUTION},
    }


def _to_line(entry: Entry) -> bytes:
    return orjson.dumps(_to_dict(entry))


def _from_lines(lines: Iterable[bytes]) -> list[Entry]:
    entries = map(_from_line, lines)
    return list({entry.number: entry for entry in entries}.values())


def _from_line(line: bytes) -> Entry:
    row: dict[str, Any] = orjson.loads(line)
    execution = None
    if row["kickoff_id"] is not None:
        names = ("inputs", "meta", *_OF_THE_EXECUTION)
        execution = Execution(**{name: row[name] for name in names if name in row})
    return Entry(row["number"], row["received_at"], row["answered"], row["inputs"], row["meta"], execution)
