"""Keeps which tracked run is polled next: a heap of small entries, without a clock.

A run has at most one valid entry. Moving it leaves the old entry behind, which is skipped when it comes up: cheaper
than searching for it.

When more polls are due than can be made, those go first that most likely find an end. To rank all of them each time
would cost too much; so of each eight, in turn, the likeliest is taken. One of eight polls is for the one that has
waited longest: a run that is far older than any before it has hardly a chance, but its deadline must be seen.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count, islice

from bridge.core.runs.model import TrackedRun

OF_SO_MANY = 8
_AT_ONCE = 0.0  # the due time of what was hastened, and of nothing else: seconds since the epoch

_Entry = tuple[float, int, TrackedRun]
"""When, a number that orders what is due at the same moment, and what."""


class PollQueue:
    """Keeps tracked runs by the time of their next poll."""

    def __init__(self) -> None:
        self._numbers = count()
        self._heap: list[_Entry] = []
        self._overdue: deque[_Entry] = deque()
        self._entries: dict[str, _Entry] = {}
        self._expedited: set[str] = set()
        self._polls_by_chance = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._entries

    @property
    def overdue(self) -> int:
        """About how many runs are due and were not taken yet."""
        return len(self._overdue)

    def put(self, tracked: TrackedRun, due: float) -> None:
        """Poll this run at `due`, instead of when it was scheduled before."""
        if tracked.run_id in self._expedited:
            self._expedited.remove(tracked.run_id)
            due = _AT_ONCE
        entry = self._entries[tracked.run_id] = (due, next(self._numbers), tracked)
        heapq.heappush(self._heap, entry)

    def expedite(self, run_id: str) -> None:
        """Poll this run now; if a poll is in progress, once more after it, because that poll may be too early."""
        entry = self._entries.get(run_id)
        if entry is None:
            self._expedited.add(run_id)
        else:
            self.put(entry[2], _AT_ONCE)

    def reschedule(self, now: float, when: Callable[[TrackedRun], float]) -> None:
        """Reschedule every poll that is not due yet."""
        for tracked in [tracked for due, _, tracked in self._entries.values() if due > now]:
            self.put(tracked, when(tracked))

    def drop(self, run_id: str) -> None:
        """Stop polling this run."""
        self._entries.pop(run_id, None)
        self._expedited.discard(run_id)

    def some(self, most: int) -> list[str]:
        """Return at most `most` runs that are not being polled, those tracked last first."""
        return list(islice(reversed(self._entries), most))

    def clear(self) -> None:
        """Remove every run."""
        self._entries.clear()
        self._expedited.clear()

    def extend_deadlines(self, seconds: float) -> None:
        """Every followed run gets so much more time, because nothing could be seen for so long."""
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
        """About how many runs' time has come."""
        come = []
        while self._heap and (self._heap[0][0] <= now or not self._valid(self._heap[0])):
            entry = heapq.heappop(self._heap)
            if self._valid(entry):
                come.append(entry)
        self._overdue.extendleft(reversed(come))
        return len(self._overdue)

    def take_due(self, now: float, room: int, chance: Callable[[TrackedRun], float] | None = None) -> list[TrackedRun]:
        """Take out at most `room` runs whose time has come, the longest overdue first.

        Where there is not room for all: first those that were hastened, then by `chance`, how likely a poll finds an
        end, but now and then the one that is overdue for longest.
        """
        waiting = self.due(now)
        if waiting <= room or chance is None:
            return self._taken(self._next(room))
        some = self._next(OF_SO_MANY * room)
        longest = self._longest_overdue(some, room)
        best = heapq.nlargest(
            room,
            some,
            key=lambda entry: math.inf if entry[0] == _AT_ONCE or entry is longest else chance(entry[2]),
        )
        chosen = {entry[1] for entry in best}
        self._overdue.extend(entry for entry in some if entry[1] not in chosen)
        return self._taken(best)

    def _longest_overdue(self, some: Iterable[_Entry], room: int) -> _Entry | None:
        """The longest overdue of these, if it is its turn now."""
        self._polls_by_chance += room
        if self._polls_by_chance < OF_SO_MANY:
            return None
        self._polls_by_chance %= OF_SO_MANY
        return min((entry for entry in some if entry[0] != _AT_ONCE), default=None)

    def _next(self, most: int) -> list[_Entry]:
        """Take at most `most` valid entries from the front of those overdue."""
        found: list[_Entry] = []
        overdue, valid = self._overdue, self._entries.get  # eight entries for each poll, where polls are overdue
        while overdue and len(found) < most:
            entry = overdue.popleft()
            if valid(entry[2].run_id) is entry:
                found.append(entry)
        return found

    def _taken(self, entries: Iterable[_Entry]) -> list[TrackedRun]:
        return [self._entries.pop(tracked.run_id)[2] for _, _, tracked in entries]

    def _valid(self, entry: _Entry) -> bool:
        return self._entries.get(entry[2].run_id) is entry
