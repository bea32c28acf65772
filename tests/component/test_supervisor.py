"""The phased stop of services, with scripted ones."""

import asyncio

from bridge.supervisor import Supervisor
from tests.patience import PATIENCE


class UncancellableService:
    """Works until released, like a worker whose POST is in flight."""

    name = "uncancellable"

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.began = asyncio.Event()

    async def run(self) -> None:
        self.began.set()
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                continue

    def stop(self) -> None:
        pass


async def test_a_hurried_stop_leaves_a_service_that_cannot_be_cancelled():
    """The stop failed with an internal error, and the process ended as after a bug."""
    service = UncancellableService()
    supervisor = Supervisor([[service]])
    supervisor.start()
    await asyncio.wait_for(service.began.wait(), PATIENCE)
    hurry = asyncio.Event()
    hurry.set()

    try:
        await supervisor.stop(hurry)
    finally:
        service.released.set()

    assert supervisor.ended == []
