"""A priority queue of tracked runs by the time of their next poll.

A run has at most one valid entry in the heap. Rescheduling leaves the old entry in place, to be skipped when it is
popped, which is cheaper than searching for it.

If more polls are due than can be made, those that most likely find an end go first. Ranking all of them each time would
cost too much, so the most likely of every eight is taken. Every eighth poll is for the run that is overdue longest: a
run much older than all others is unlikely to have ended, but its deadline must be detected.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count, islice

from bridge.core.runs.model import TrackedRun

CANDIDATES_PER_POLL = 8
_EXPEDITED = 0.0  # the due time of expedited entries only, in seconds since the epoch

_Entry = tuple[float, int, TrackedRun]
"""Due time, sequence number as a tie-breaker, and run."""


class PollQueue:
    """The tracked runs of one crew, ordered by the time of their next poll; it reads no clock."""

    def __init__(self) -> None:
        self._numbers = count()
        self._heap: list[_Entry] = []
        self._overdue: deque[_Entry] = deque()
        self._entries: dict[str, _Entry] = {}
        self._expedited: set[str] = set()
        self._polls_since_longest_overdue = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._entries

    @property
    def overdue(self) -> int:
        """The approximate number of due runs that have not been taken."""
        return len(self._overdue)

    def put(self, tracked: TrackedRun, due: float) -> bool:
        """Schedule the next poll of a run, replacing its previous entry; return whether it is due before all others."""
        if tracked.run_id in self._expedited:
            self._expedited.remove(tracked.run_id)
            due = _EXPEDITED
        entry = self._entries[tracked.run_id] = (due, next(self._numbers), tracked)
        heapq.heappush(self._heap, entry)
        return self._heap[0] is entry

    def expedite(self, run_id: str) -> None:
        """Poll a run now; during a poll, poll once more after it, because that one may be too early."""
        entry = self._entries.get(run_id)
        if entry is None:
            self._expedited.add(run_id)
        else:
            self.put(entry[2], _EXPEDITED)

    def reschedule(self, now: float, when: Callable[[TrackedRun], float]) -> None:
        """Reschedule every run that is not due yet; `when` returns the new time."""
        for tracked in [tracked for due, _, tracked in self._entries.values() if due > now]:
            self.put(tracked, when(tracked))

    def drop(self, run_id: str) -> None:
        """Remove a run."""
        self._entries.pop(run_id, None)
        self._expedited.discard(run_id)

    def newest(self, limit: int) -> list[str]:
        """Return the ids of at most `limit` queued runs, most recently added first."""
        return list(islice(reversed(self._entries), limit))

    def clear(self) -> None:
        """Remove every run."""
        self._entries.clear()
        self._expedited.clear()

    def extend_deadlines(self, seconds: float) -> None:
        """Extend the deadline of every queued run, because the crew could not be polled for so many seconds."""
        for due, _, tracked in list(self._entries.values()):
            self.put(replace(tracked, deadline=tracked.deadline + seconds), due)

    def next_due(self) -> float | None:
        """Return when the next poll is due; in the past if some are overdue; None while no run is tracked."""
        for waiting in (self._overdue, self._heap):
            while waiting and not self._valid(waiting[0]):
                heapq.heappop(self._heap) if waiting is self._heap else self._overdue.popleft()
            if waiting:
                return waiting[0][0]
        return None

    def due(self, now: float) -> int:
        """Return the approximate number of due runs."""
        due_entries = []
        while self._heap and (self._heap[0][0] <= now or not self._valid(self._heap[0])):
            entry = heapq.heappop(self._heap)
            if self._valid(entry):
                due_entries.append(entry)
        self._overdue.extendleft(reversed(due_entries))
        return len(self._overdue)

    def take_due(self, now: float, limit: int, chance: Callable[[TrackedRun], float] | None = None) -> list[TrackedRun]:
        """Remove and return at most `limit` due runs, the longest overdue first.

        If more are due: first the expedited ones, then by `chance`, the probability that a poll finds an end, and
        regularly the one that is overdue longest.
        """
        if self.due(now) <= limit or chance is None:
            return self._taken(self._next(limit))
        candidates = self._next(CANDIDATES_PER_POLL * limit)
        longest = self._longest_overdue(candidates, limit)
        best = heapq.nlargest(
            limit,
            candidates,
            key=lambda entry: math.inf if entry[0] == _EXPEDITED or entry is longest else chance(entry[2]),
        )
        chosen = {entry[1] for entry in best}
        self._overdue.extend(entry for entry in candidates if entry[1] not in chosen)
        return self._taken(best)

    def _longest_overdue(self, candidates: Iterable[_Entry], limit: int) -> _Entry | None:
        """Return the longest overdue candidate on every eighth poll, otherwise None."""
        self._polls_since_longest_overdue += limit
        if self._polls_since_longest_overdue < CANDIDATES_PER_POLL:
            return None
        self._polls_since_longest_overdue %= CANDIDATES_PER_POLL
        return min((entry for entry in candidates if entry[0] != _EXPEDITED), default=None)

    def _next(self, limit: int) -> list[_Entry]:
        """Remove at most `limit` valid entries from the front of the overdue ones."""
        found: list[_Entry] = []
        overdue, valid = self._overdue, self._entries.get  # a hot loop while polls are overdue
        while overdue and len(found) < limit:
            entry = overdue.popleft()
            if valid(entry[2].run_id) is entry:
                found.append(entry)
        return found

    def _taken(self, entries: Iterable[_Entry]) -> list[TrackedRun]:
        return [self._entries.pop(tracked.run_id)[2] for _, _, tracked in entries]

    def _valid(self, entry: _Entry) -> bool:
        return self._entries.get(entry[2].run_id) is entry
