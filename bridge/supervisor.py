"""Run the services and stop them by phases, so that work in progress finishes.

A service that ends by itself, because of a bug, stops all of them.
"""

import asyncio
from collections.abc import Collection, Sequence

import structlog

from bridge.ports.lifecycle import Service

GRACE = 75.0  # seconds for work in progress; longer than a POST to a crew may take

log = structlog.get_logger()


class Supervisor:
    """Keeps the tasks of the services; `phases` is the order in which they stop."""

    def __init__(self, phases: Sequence[list[Service]]) -> None:
        self._phases = phases
        self._tasks: dict[asyncio.Task[None], Service] = {}
        self._being_removed: set[asyncio.Task[None]] = set()
        self._one_ended = asyncio.Event()
        self._stop_requested = False

    def start(self) -> None:
        """Run each service in its own task."""
        for service in (service for phase in self._phases for service in phase):
            self._start(service)

    def add(self, service: Service, phase: list[Service]) -> None:
        """Run another service, and stop it in this phase."""
        phase.append(service)
        self._start(service)

    async def remove(self, services: Collection[Service]) -> None:
        """Stop some services and wait for their work in progress. One that fails ends the process, as always."""
        tasks = [task for task, service in self._tasks.items() if service in services]
        self._being_removed.update(tasks)
        for service in services:
            service.stop()
        if tasks:
            await asyncio.wait(tasks)
        for services_of_phase in self._phases:
            services_of_phase[:] = [service for service in services_of_phase if service not in services]
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                del self._tasks[task]

    def _start(self, service: Service) -> None:
        task = asyncio.create_task(service.run(), name=service.name)
        self._tasks[task] = service
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task not in self._being_removed or (not task.cancelled() and task.exception() is not None):
            self._one_ended.set()
        self._being_removed.discard(task)

    @property
    def ended(self) -> list[str]:
        """The names of the services that have ended."""
        return [service.name for task, service in self._tasks.items() if task.done()]

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set or a service has ended by itself."""
        waiting = [asyncio.create_task(event.wait()) for event in (stop, self._one_ended)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        self._stop_requested = stop.is_set()

    async def stop(self, hurry: asyncio.Event, grace: float = GRACE) -> None:
        """Stop phase by phase; when `hurry` is set or `grace` has passed, cancel what is left.

        Raise the error of a service that failed, and `RuntimeError` if one ended without an error before the stop.
        """
        ended_early = [] if self._stop_requested else self.ended
        hurried = asyncio.create_task(hurry.wait())
        deadline = asyncio.get_running_loop().time() + grace
        for phase in self._phases:
            for service in phase:
                service.stop()
            await self._wait_for(phase, hurried, deadline)
        hurried.cancel()
        await self._cancel_rest()
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if ended_early:
            raise RuntimeError(f"services ended without being stopped: {', '.join(ended_early)}")

    async def _wait_for(self, phase: Sequence[Service], hurried: asyncio.Task[bool], deadline: float) -> None:
        left = {task for task, service in self._tasks.items() if service in phase and not task.done()}
        while left and not hurried.done() and (time_left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait([*left, hurried], timeout=time_left, return_when=asyncio.FIRST_COMPLETED)
            left = {task for task in left if not task.done()}

    async def _cancel_rest(self) -> None:
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            log.warning("part_cancelled", part=self._tasks[task].name)
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
