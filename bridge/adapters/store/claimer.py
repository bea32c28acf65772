"""Claims rows, and before the next claim releases those that this process may own without working on them."""

import asyncio
from typing import TypeVar

from bridge.adapters.store.connections import Work
from bridge.adapters.store.decoding import ReportUndecodable
from bridge.adapters.store.group_commit import Batches, WriteAll, WriteUnconfirmed
from bridge.adapters.store.queries.claims import Claimed

C = TypeVar("C")
T = TypeVar("T")


class Claimer:
    """Claims rows for one process.

    A claim or write whose commit was not confirmed may have given this process rows of which no caller knows.
    """

    def __init__(self, batches: Batches, report: ReportUndecodable) -> None:
        self._batches = batches
        self._report = report
        self._releases: list[Work[None]] = []
        self._releasing = asyncio.Lock()

    async def claim(self, claim_all: WriteAll[C, Claimed[T]], request: C) -> list[T]:
        """Return the rows claimed, after pending releases; report those that cannot be decoded."""
        await self.release()
        try:
            claimed = await self._batches.write(claim_all, request)
        except WriteUnconfirmed as error:
            if error.result is not None and error.result.rows:
                self.release_later(error.result.release)
            raise
        self._report(claimed.undecodable)
        return list(claimed.rows)

    def release_later(self, release: Work[None]) -> None:
        """Make this release before the next claim."""
        self._releases.append(release)

    async def release(self) -> None:
        """Make all pending releases; raises `StoreUnavailable`, and then they remain pending."""
        async with self._releasing:  # no worker claims while another one releases
            while self._releases:
                await self._batches.write_one(self._releases[0])
                del self._releases[0]
