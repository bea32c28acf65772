"""Claim rows and write decisions for one process, and resolve commits that were not confirmed.

A commit without a confirmation may have happened or not. If it has, this process owns rows of which no caller knows:

* Rows of a claim are released before the next claim.
* A decision is written again until that is confirmed. If its run has changed, the run as stored shows whether the first
  attempt has written it. If another write has followed, its new deliveries are released before the caller continues.
"""

import asyncio
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from bridge.adapters.store.connections import Connections, Work
from bridge.adapters.store.decoding import ReportUndecodable
from bridge.adapters.store.group_commit import Batches, WriteAll, WriteUnconfirmed, until_available, wait_for_store
from bridge.adapters.store.local_handoff import LocalHandoff
from bridge.adapters.store.queries import run_lists
from bridge.adapters.store.queries.claims import Claimed, release_deliveries
from bridge.adapters.store.queries.runs import WriteRequest, is_written, write_decisions
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.model import Decision, Run
from bridge.ports.runs import Conflict

C = TypeVar("C")
T = TypeVar("T")


class Ownership:
    """Claims rows and writes decisions in the name of one process; `process`: the name under which it owns rows."""

    def __init__(self, process: str, batches: Batches, reader: Connections, report: ReportUndecodable) -> None:
        self.process = process
        self.handoff = LocalHandoff()
        self._name, self._incarnation = process, 1
        self._batches = batches
        self._reader = reader
        self._report = report
        self._releases: list[Work[None]] = []
        self._releasing = asyncio.Lock()

    def rename(self) -> None:
        """Take a new name, which owns nothing, after the former one has expired."""
        self._incarnation += 1
        self.process = f"{self._name}-{self._incarnation}"
        self.handoff.clear()

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

    async def apply(self, decision: Decision, *, retry: bool) -> Run | Conflict:
        """Write a decision; return the run as stored, or the conflict that prevented the write.

        Without `retry`, new deliveries stay unclaimed, because the caller may repeat the write.
        """
        if not retry:
            return await self._write(WriteRequest(decision, self.process))
        request = WriteRequest(decision, self.process, self.handoff.to_own(decision.deliveries))
        try:
            written = await self._write_until_confirmed(request)
        except asyncio.CancelledError:  # the write may be committed nevertheless
            self._release_deliveries_later(request)
            raise
        if isinstance(written, Run):
            self.handoff.add(request.own)
        return written

    async def _write_until_confirmed(self, request: WriteRequest) -> Run | Conflict:
        try:
            return await self._write(request)
        except StoreUnavailable as error:
            await wait_for_store(error)
        written = await until_available(partial(self._write, request))
        if written is Conflict.STALE:
            run_id = request.decision.run.run_id
            stored = await until_available(partial(self._reader.read, partial(run_lists.load_run, run_id=run_id)))
            if stored is not None and is_written(request.decision, stored):
                return stored
            self._release_deliveries_later(request)
            await until_available(self.release)  # before the caller decides again on deliveries with the same ids
        return written

    async def _write(self, request: WriteRequest) -> Run | Conflict:
        try:
            return await self._batches.write(write_decisions, request)
        except IntegrityError:
            if not await self._is_taken(request.decision.run):
                raise
            return Conflict.EXECUTION_TAKEN

    async def _is_taken(self, run: Run) -> bool:
        """Return whether another run of the crew has this run's kickoff id."""
        if run.kickoff_id is None:
            return False
        find = partial(run_lists.find_execution, crew=run.crew, kickoff_id=run.kickoff_id)
        holder = await until_available(partial(self._reader.read, find))
        return holder is not None and holder.run_id != run.run_id

    def _release_deliveries_later(self, request: WriteRequest) -> None:
        if request.own:
            self.release_later(partial(release_deliveries, owned=request.own, process=request.process))

    def release_later(self, release: Work[None]) -> None:
        """Make this release before the next claim."""
        self._releases.append(release)

    async def release(self) -> None:
        """Make all pending releases; raises `StoreUnavailable`, and then they remain pending."""
        async with self._releasing:  # no worker claims while another one releases
            while self._releases:
                await self._batches.write_one(self._releases[0])
                del self._releases[0]
