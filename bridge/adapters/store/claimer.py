"""Claims rows, and releases what a claim with an unconfirmed commit may have taken before the next claim."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from bridge.adapters.store.connections import Work
from bridge.adapters.store.decoding import ReportUndecodable
from bridge.adapters.store.group_commit import Batches, WriteAll
from bridge.adapters.store.queries import claims, kickoffs
from bridge.core.errors import StoreUnavailable

ClaimRequest = claims.ClaimInStates | claims.ClaimDeliveries | claims.ClaimCallbacks | kickoffs.ClaimAccepted

C = TypeVar("C", bound=ClaimRequest)
T = TypeVar("T")


class Claimer:
    """Claims rows for one process, and keeps the claims whose commit was not confirmed."""

    def __init__(self, batches: Batches, report: ReportUndecodable) -> None:
        self._batches = batches
        self._report = report
        self._unconfirmed: list[Work[None]] = []
        self._releasing = asyncio.Lock()

    async def claim(self, claim_all: WriteAll[C, T], request: C) -> T:
        """Return the rows claimed, after the release of unconfirmed ones; report those that cannot be decoded."""
        await self.release_unconfirmed()
        try:
            taken = await self._batches.write(claim_all, request)
        except StoreUnavailable:
            if request.claimed:
                self._unconfirmed.append(_release(request))
            raise
        self._report(request.undecodable)
        return taken

    async def release_unconfirmed(self) -> None:
        """Release what unconfirmed claims may have taken; raises `StoreUnavailable`."""
        async with self._releasing:  # no worker claims while another one releases
            while self._unconfirmed:
                await self._batches.write_one(self._unconfirmed[0])
                del self._unconfirmed[0]

    def add_unconfirmed(self, taken: claims.ClaimedRows) -> None:
        """Release these rows before the next claim."""
        self._unconfirmed.append(partial(claims.release_claim, taken=taken))

    async def release(self, taken: claims.ClaimedRows) -> None:
        """Release these rows; raises `StoreUnavailable`."""
        await self._batches.write_one(partial(claims.release_claim, taken=taken))

    async def release_or_keep(self, delivery_ids: Sequence[str], process: str) -> None:
        """Release deliveries; if that raises `StoreUnavailable`, release them before the next claim."""
        taken = claims.ClaimedRows(process, deliveries=delivery_ids)
        try:
            await self.release(taken)
        except StoreUnavailable:
            self.add_unconfirmed(taken)
            raise


def _release(request: ClaimRequest) -> Work[None]:
    """Return the work that releases what the last transaction of a claim request claimed."""
    if isinstance(request, kickoffs.ClaimAccepted):
        return partial(kickoffs.undo_claim, claimed=list(request.claimed), now=request.now)
    return partial(claims.release_claim, taken=claims.claimed_rows(request))
