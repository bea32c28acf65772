"""Signals between workers: each says that there may be something to claim, and carries no data."""

import asyncio
from collections import defaultdict


class Signals:
    """One event per worker, by name; setting it says "look now"."""

    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __getitem__(self, worker: str) -> asyncio.Event:
        return self._events[worker]

    def kickoff(self, crew: str) -> None:
        """There may be a run to start, or a place to start it in."""
        self._events[f"kickoff-{crew}"].set()

    def poll(self, crew: str) -> None:
        """The timetable has changed."""
        self._events[f"poll-{crew}"].set()

    def recover(self) -> None:
        """There may be a run without an owner: to be followed, to be looked at after its end, or with an answer."""
        for name, event in self._events.items():
            if name.startswith(("recover", "late-", "resume-")):
                event.set()

    def deliver(self) -> None:
        """There may be something to deliver."""
        for name in ("deliver-broker", "deliver-callbacks"):
            self._events[name].set()
