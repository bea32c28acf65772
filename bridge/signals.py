"""Signals between workers: each says that there may be something to claim, and carries no data."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from bridge.core.delivery.model import Channel, Delivery


class Signals:
    """Keeps one event per worker, by name; a set event makes the worker claim now."""

    def __init__(self) -> None:
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __getitem__(self, worker: str) -> asyncio.Event:
        return self._events[worker]

    def kickoff(self, crew: str) -> None:
        """Signal that a run may be due to start, or that a slot may be free."""
        self._events[f"kickoff-{crew}"].set()

    def poll(self, crew: str) -> None:
        """Signal that the poll queue has changed."""
        self._events[f"poll-{crew}"].set()

    def recover(self) -> None:
        """Signal that a run may have lost its owner, may need a late poll, or may have an answer to submit."""
        for name, event in self._events.items():
            if name.startswith(("recover", "late-results-", "human-input-")):
                event.set()

    def inbox(self) -> None:
        """Signal that a webhook has been stored."""
        self._events["webhook-inbox"].set()

    def deliver(self, new: Sequence[Delivery] = ()) -> None:
        """Signal that a delivery may be due: one of these, or any."""
        channels = {delivery.destination.channel for delivery in new}
        if channels != {Channel.CALLBACK}:
            self._events["deliver-broker"].set()
        if not channels or Channel.CALLBACK in channels:
            self._events["deliver-callbacks"].set()
