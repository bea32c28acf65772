"""Running the long-lived parts and stopping them by phases, so that what is in hand finishes.

A part that ends by itself, because of a bug, ends all of them.
"""

import asyncio
from collections.abc import Sequence

import structlog

from bridge.ports.processing import Service

GRACE = 75.0  # seconds to finish what is in hand; more than a POST to a crew may take

log = structlog.get_logger()


class Supervisor:
    """Runs services, given in the phases in which they stop."""

    def __init__(self, phases: Sequence[Sequence[Service]]) -> None:
        self._phases = phases
        self._tasks: dict[asyncio.Task[None], Service] = {}
        self._asked = False

    def start(self) -> None:
        """Run every part in a task of its own."""
        for service in (service for phase in self._phases for service in phase):
            self._tasks[asyncio.create_task(service.run(), name=service.name)] = service

    @property
    def ended(self) -> list[str]:
        """The parts that have ended."""
        return [service.name for task, service in self._tasks.items() if task.done()]

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set, or when a part has ended by itself."""
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self._asked = stop.is_set()

    async def stop(self, hurry: asyncio.Event, grace: float = GRACE) -> None:
        """Stop phase by phase; cut short when `hurry` is set or the grace time is over.

        Raises what a part died of, and `RuntimeError` when one ended without a reason before anybody asked it to.
        """
        ended_early = [] if self._asked else self.ended
        hurried = asyncio.create_task(hurry.wait())
        deadline = asyncio.get_running_loop().time() + grace
        for phase in self._phases:
            for service in phase:
                service.stop()
            await self._ended(phase, hurried, deadline)
        hurried.cancel()
        await self._cut_off()
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if ended_early:
            raise RuntimeError(f"ended without being asked to: {', '.join(ended_early)}")

    async def _ended(self, phase: Sequence[Service], hurried: asyncio.Task[bool], deadline: float) -> None:
        left = {task for task, service in self._tasks.items() if service in phase and not task.done()}
        while left and not hurried.done() and (time_left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait([*left, hurried], timeout=time_left, return_when=asyncio.FIRST_COMPLETED)
            left = {task for task in left if not task.done()}

    async def _cut_off(self) -> None:
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            log.warning("part_cancelled", part=self._tasks[task].name)
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
