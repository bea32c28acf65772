"""Which followed run is looked at next: a heap of small entries, without a clock of its own.

A run has at most one valid entry. Moving it leaves the old entry in the heap, which is skipped when it comes up:
cheaper than searching for it.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from bridge.core.model import Watch


class Timetable:
    """Watches by the time of their next look."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._watches: dict[str, Watch] = {}
        self._hastened: set[str] = set()

    def __len__(self) -> int:
        return len(self._watches)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._watches

    def put(self, watch: Watch, due: float) -> None:
        """Look at this run at `due`, instead of whenever it was to be looked at before."""
        if watch.run_id in self._hastened:
            self._hastened.remove(watch.run_id)
            due = 0.0
        self._watches[watch.run_id] = watch
        self._due[watch.run_id] = due
        heapq.heappush(self._heap, (due, watch.run_id))

    def hasten(self, run_id: str) -> None:
        """Look at this run now; if it is being looked at, once more after that, because that look may be too early."""
        watch = self._watches.get(run_id)
        if watch is None:
            self._hastened.add(run_id)
        else:
            self.put(watch, 0.0)

    def replan(self, now: float, when: Callable[[Watch], float]) -> None:
        """Think anew about every look that is not due yet."""
        for run_id in [run_id for run_id, due in self._due.items() if due > now]:
            self.put(self._watches[run_id], when(self._watches[run_id]))

    def drop(self, run_id: str) -> None:
        """Look at this run no more."""
        self._watches.pop(run_id, None)
        self._due.pop(run_id, None)
        self._hastened.discard(run_id)

    def drop_all(self, run_ids: Iterable[str]) -> None:
        """Look at none of these runs any more."""
        for run_id in run_ids:
            self.drop(run_id)

    def some(self, count: int) -> list[str]:
        """At most `count` runs that are not being looked at, those last followed first."""
        return list(islice(reversed(self._watches), count))

    def clear(self) -> None:
        """Look at nothing any more."""
        self.drop_all(list(self._watches))

    def put_off_deadlines(self, seconds: float) -> None:
        """Every followed run gets so much more time, because nothing could be seen for so long."""
        for run_id, watch in self._watches.items():
            self._watches[run_id] = replace(watch, deadline=watch.deadline + seconds)

    def next_due(self) -> float | None:
        """When the next look is due; None while nothing is followed."""
        self._drop_outdated()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float, room: int) -> list[Watch]:
        """Take out at most `room` runs whose time has come, the longest overdue first."""
        taken: list[Watch] = []
        while len(taken) < room and (due := self.next_due()) is not None and due <= now:
            _, run_id = heapq.heappop(self._heap)
            del self._due[run_id]
            taken.append(self._watches.pop(run_id))
        return taken

    def _drop_outdated(self) -> None:
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
