"""Implements the ports of runs, deliveries, queries, and the cluster, which document the operations, on a SQL database.

Every write goes through `Batches`. The version guards a run's row: an update that finds another version changes
nothing, and its caller gets `Conflict.STALE`.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bridge.adapters.store import dialect, probing
from bridge.adapters.store.batch_loader import BatchLoader
from bridge.adapters.store.claimer import Claimer
from bridge.adapters.store.connections import Connections, Work
from bridge.adapters.store.decoding import UndecodableReports, decode_and_report
from bridge.adapters.store.errors import is_transient, unavailable
from bridge.adapters.store.free_slots import FreeSlots
from bridge.adapters.store.group_commit import Batches, Transaction
from bridge.adapters.store.local_handoff import LocalHandoff
from bridge.adapters.store.queries import accept, budgets, callbacks, claims, cluster, retention, run_lists, run_times
from bridge.adapters.store.queries import deliveries as delivery_queries
from bridge.adapters.store.queries import events as event_queries
from bridge.adapters.store.queries import runs as run_queries
from bridge.adapters.store.queries.commands import SqlCommands
from bridge.adapters.store.queries.inbox import SqlWebhookInbox
from bridge.adapters.store.rows import run_from_row
from bridge.adapters.store.schema import runs
from bridge.core.crew.fair_share import Membership
from bridge.core.delivery.model import Attempt, Channel, Delivery, Event
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.errors import ProcessExpired, StoreBroken, StoreDamaged, StoreUnavailable
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Decision, Run, RunTime, State
from bridge.observability.logging import log_fault
from bridge.ports.inbound import Accepted
from bridge.ports.lifecycle import Health, ReportFault
from bridge.ports.queries import DeliveryFilter, Page, RunFilter, StoredEvent
from bridge.ports.runs import Conflict

RETRY_INTERVAL = 1.0  # seconds between attempts of a write that must not be lost

T = TypeVar("T")

log = structlog.get_logger()


class SqlStore:
    """Stores runs, events, and deliveries in one SQL database.

    `process`: the name of this process; `key`: the store's secret, from which webhook tokens are derived; `on_stale` is
    called for each stale write that is discarded; `shared`: other processes may use the store; `api_reader`:
    connections for queries of API callers.
    """

    def __init__(
        self,
        reader: Connections,
        transaction: Transaction,
        process: str,
        key: bytes,
        on_stale: Callable[[], None],
        verify: Callable[[], None] = lambda: None,
        *,
        shared: bool,
        crews: Collection[str] = (),
        api_reader: Connections | None = None,
        report: ReportFault = log_fault,
    ) -> None:
        self.key, self._crews, self._report = key, frozenset(crews), UndecodableReports(report)
        self.shared = shared
        self.verify = verify  # raises `StoreReplaced`
        self._count_stale = on_stale
        self._reader = reader
        self._api_reader = api_reader or reader
        self._loads = BatchLoader(lambda run_ids: self._read(partial(run_lists.load_runs, run_ids=run_ids)))
        self._peeks = BatchLoader(
            lambda run_ids: self._read_for_api(partial(run_lists.load_summaries, run_ids=run_ids))
        )
        self._batches = Batches(transaction)
        self._claimer = Claimer(self._batches, self._report)
        self._handoff = LocalHandoff()
        self.commands = SqlCommands(self._batches.write_one, self._read)
        self.inbox = SqlWebhookInbox(self._batches.write_one, self._read, lambda: self._process, crews)
        self._free_slots = None if shared else FreeSlots()
        self._name, self._process, self._incarnation = process, process, 1

    async def accept(self, run: Run) -> Accepted:
        """Store a new run, or return the earlier one; raises `RequestRefused` for a key used with other content."""
        return await self._batches.write(accept.accept_all, run)

    async def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries that belong to no run."""
        await self._batches.write(accept.add_deliveries, deliveries)

    async def claim_accepted(
        self,
        crew: str,
        limit: int,
        max_running: int,
        now: float,
        limits: Budgets = UNLIMITED,
        max_bytes: float = math.inf,
    ) -> list[Run]:
        """Claim due accepted runs of a crew, by priority and age, within slots, budgets, and memory."""
        request = claims.ClaimAccepted(
            self._process, crew, limit, max_running, now, limits, max_bytes, self._free_slots
        )
        return await self._claimer.claim(claims.claim_runs, request)

    async def seconds_until_budget(self, run: Run, limits: Budgets, now: float) -> float:
        """Return the estimated seconds until the budgets permit a waiting run to start."""
        return await self._read(lambda connection: budgets.seconds_until_budget(connection, run, limits, now))

    async def claim(
        self, states: Collection[State], limit: int, now: float | None = None, crews: Collection[str] | None = None
    ) -> list[Run]:
        """Claim unowned runs: those due by `now`, or without it those with no due time, without inputs and meta."""
        return await self._claimer.claim(
            claims.claim_runs, claims.ClaimInStates(self._process, frozenset(states), limit, now, crews)
        )

    async def apply(self, decision: Decision, *, retry: bool = True) -> Run | Conflict:
        """Write a decision, with `retry` until the store is available; return the run as stored, or the conflict.

        Without `retry`, new deliveries stay unclaimed, because the caller may repeat the write.
        """
        own = self._handoff.ids_to_own(decision.deliveries) if retry else frozenset[str]()
        request = run_queries.WriteRequest(decision, self._process, own)
        try:
            written = await self._apply(request, retry=retry)
        except asyncio.CancelledError:  # the write may be committed nevertheless
            if own:
                self._claimer.add_unconfirmed(request.claimed_rows())
            raise
        if isinstance(written, Run):
            self._handoff.add([delivery for delivery in decision.deliveries if delivery.delivery_id in own])
        return written

    async def _apply(self, request: run_queries.WriteRequest, *, retry: bool) -> Run | Conflict:
        tried_before = False
        while True:
            try:
                written: Run | Conflict = await self._batches.write(run_queries.write_decisions, request)
            except StoreUnavailable as error:
                await self._wait(error, retry=retry)
                tried_before = True
            except IntegrityError:
                if not await self._is_taken(request.decision.run):
                    raise
                return Conflict.EXECUTION_TAKEN
            else:
                return written if isinstance(written, Run) else await self._on_stale(request, tried_before=tried_before)

    async def _on_stale(self, request: run_queries.WriteRequest, *, tried_before: bool) -> Run | Conflict:
        """Return the run if an earlier attempt has written the decision; otherwise discard the write."""
        if tried_before and (written := await self._find_written(request.decision)) is not None:
            return written
        if tried_before and request.own:  # before the caller decides again on deliveries with the same ids
            await self._until_available(partial(self._claimer.release, request.claimed_rows()))
        log.info("stale_write_discarded", run_id=request.decision.run.run_id, crew=request.decision.run.crew)
        self._count_stale()
        return Conflict.STALE

    async def load(self, run_id: str) -> Run | None:
        """Load a run, in a batch with others."""
        return await self._loads.load(run_id)

    async def load_for_api(self, run_id: str) -> Run | None:
        """Load a run for an API caller, separately, because its result may be large."""
        return await self._read_for_api(partial(run_lists.load_run, run_id=run_id))

    async def peek(self, run_id: str) -> Run | None:
        """Load a run for an API caller, without inputs, meta, progress, and result."""
        return await self._peeks.load(run_id)

    async def find_execution(self, crew: str, kickoff_id: str) -> Run | None:
        """Return the newest run of a crew whose execution has this id."""
        query = select(runs).where(runs.c.crew == crew, runs.c.kickoff_id == kickoff_id)
        return next(map(run_from_row, await self._select(query.order_by(runs.c.run_id.desc()).limit(1))), None)

    async def find_key(self, source: str, crew: str, key: str) -> Run | None:
        """Return the run that has a sender's idempotency key."""
        matches = (runs.c.source == source, runs.c.crew == crew, runs.c.idempotency_key == key)
        return next(map(run_from_row, await self._select(select(runs).where(*matches))), None)

    async def find_runs(self, filter_: RunFilter) -> Page[Run]:
        """Return a page of runs, newest first, without inputs and large results."""
        return await self._read_for_api(partial(run_lists.runs_page, filter_=filter_, report=self._report))

    async def claim_deliveries(self, channels: Sequence[Channel], limit: int, now: float) -> list[Delivery]:
        """Claim due deliveries of these channels: those handed off, then the longest due in the store."""
        for_store = self._handoff.slots_for_store(limit, now)
        own = self._handoff.take(channels, limit - for_store, now)
        if own and not for_store:
            return own
        request = claims.ClaimDeliveries(self._process, tuple(channels), limit - len(own), now)
        try:
            claimed = await self._claimer.claim(claims.claim_deliveries, request)
        except StoreUnavailable:
            if own:
                return own  # no other process would send them
            raise
        self._handoff.claimed_from_store(len(claimed), request.limit, now)
        return own + claimed + self._handoff.take(channels, request.limit - len(claimed), now)

    async def claim_callbacks(self, limit: int, limits: ConcurrencyLimits, now: float) -> list[Delivery]:
        """Claim due callbacks, the longest due first, within the concurrency limits of their receivers."""
        return await self._claimer.claim(
            callbacks.claim_callbacks, claims.ClaimCallbacks(self._process, limit, limits, now)
        )

    async def record_outcome(self, outcome: DeliveryOutcome) -> None:
        """Write the outcome of an attempt, and retry until the store is available."""
        owned = delivery_queries.OwnedOutcome(self._process, outcome)
        await self._until_available(partial(self._batches.write, delivery_queries.write_outcomes, owned))

    async def deliveries_for_run(self, run_id: str) -> list[Delivery]:
        """Return the deliveries of a run, without the bodies of their events."""
        return await self._read_for_api(partial(run_lists.deliveries_of_run, run_id=run_id, report=self._report))

    async def join(self, now: float) -> None:
        """Register this process as one that may own rows."""
        await self._batches.write_one(partial(claims.join, process=self._process, crews=self._crews, now=now))

    async def find_deliveries(self, filter_: DeliveryFilter) -> list[Delivery]:
        """Return deliveries, newest first, without the bodies of their events."""
        return await self._read_for_api(partial(run_lists.deliveries_page, filter_=filter_, report=self._report))

    async def redeliver(self, filter_: DeliveryFilter, now: float) -> int:
        """Make deliveries due now, with a new retry schedule; return how many."""
        return await self._batches.write_one(partial(delivery_queries.redeliver, filter_=filter_, now=now))

    async def attempts_for_delivery(self, delivery_id: str) -> list[Attempt]:
        """Return the stored attempts of a delivery, oldest first."""
        return await self._read_for_api(partial(run_lists.attempts_for_delivery, delivery_id=delivery_id))

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        """Return the first `limit` events about runs stored since then, in the order of storage."""
        return await self._read_for_api(partial(event_queries.find_events, since=since, limit=limit))

    async def stored_at(self, event_id: str | None = None) -> float | None:
        """Return when an event was stored, or without an id the newest event; None if there is none."""
        return await self._read_for_api(partial(event_queries.stored_at, event_id=event_id))

    async def load_events(self, event_ids: Collection[str]) -> list[Event]:
        """Return the oldest of these events, as many as fit in memory, oldest first."""
        return await self._read_for_api(partial(event_queries.load_events, event_ids=event_ids, report=self._report))

    async def heartbeat(self, now: float) -> None:
        """Record a heartbeat; raise `ProcessExpired` if another process has expired this one.

        First terminates the sessions of stopped processes, over a reader, because the writer may wait for their locks.
        """
        await self._read(dialect.end_idle_sessions)
        if not await self._batches.write_one(partial(claims.heartbeat, process=self._process, now=now)):
            raise ProcessExpired("this process was silent for too long")
        if unclaimed := self._handoff.take_unclaimed(now):
            await self._claimer.release_or_keep([delivery.delivery_id for delivery in unclaimed], self._process)

    async def expire_processes(self, now: float, silent_for: float) -> int:
        """Expire processes without a heartbeat for so many seconds, and release their rows; return how many."""
        return await self._batches.write_one(partial(claims.expire_processes, now=now, silent_for=silent_for))

    async def rejoin(self, now: float) -> str:
        """After `ProcessExpired`, register under a new name, which owns nothing; return the name."""
        self._incarnation += 1
        self._process = f"{self._name}-{self._incarnation}"
        self._handoff.clear()
        await self.join(now)
        return self._process

    def owned_elsewhere(self, run: Run) -> bool:
        """Return whether another process owns this run."""
        return run.owner not in {None, self._process}

    async def membership(self) -> dict[str, Membership]:
        """Return, per crew served here, how many processes serve it and how many of its runs are tracked."""
        return await self._read(partial(cluster.count_membership, process=self._process, crews=self._crews))

    async def is_served(self, crew: str) -> bool:
        """Return whether any process serves the crew."""
        return crew in self._crews or crew in await self._read(cluster.crews_served)

    async def unserved(self) -> dict[str, int]:
        """Return the number of unfinished runs of each crew that no process serves."""
        return await self._read(cluster.unserved)

    async def release_runs(self, run_ids: Collection[str]) -> int:
        """Release runs that this process no longer tracks; return how many."""
        return await self._batches.write_one(
            partial(cluster.release_runs, process=self._process, run_ids=list(run_ids))
        )

    async def store_run_times(self, crew: str, new: Sequence[RunTime], since: float, limit: int) -> None:
        """Add run times of a crew; keep only the last `limit` of those that ended since then."""
        await self._batches.write_one(partial(run_times.add, crew=crew, new=new, since=since, limit=limit))

    async def run_times(self, crew: str, after: float, limit: int) -> list[RunTime]:
        """Return the last `limit` run times of a crew that ended after then, newest first."""
        found = await self._select(run_times.select_newest(crew, after, limit))
        return decode_and_report(found, run_times.run_time_from_row, "run_id", self._report)

    async def delete_ended_runs(self, ended_before: float, limit: int) -> int:
        """Delete at most `limit` runs that ended before then and have no pending delivery; return how many."""
        delete = partial(retention.delete_ended_runs, ended_before=ended_before, limit=limit)
        return await self._batches.write_one(delete)

    async def health(self) -> Health:
        """Return whether the store can be read and, judging by its last transaction, written."""
        try:
            await self._select(select(1))
        except (StoreUnavailable, StoreBroken, StoreDamaged):
            return Health(ok=False, detail="cannot be read")
        if self._batches.failing:  # until the next write succeeds, at the latest a heartbeat
            return Health(ok=False, detail="cannot be written")
        return Health(ok=True, detail="readable and writable")

    async def probe(self, size: int) -> None:
        """Check that `size` bytes can be written, and remove them; raises `StoreUnavailable`."""
        await self._batches.write_one(partial(probing.fill, size=size))
        await self._batches.write_one(probing.clear)

    async def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of runs and of deliveries per state."""
        return await self._read_for_api(run_lists.counts)

    async def close(self) -> None:
        """Commit pending writes, release every claim, and remove this process."""
        await self._batches.drain()
        try:
            await self._batches.write_one(partial(claims.release, names=[self._process]))
        except StoreUnavailable as error:  # the next heartbeat of another process releases them
            log.warning("claims_not_released", reason=str(error))

    async def _find_written(self, decision: Decision) -> Run | None:
        """Return the stored run if an earlier attempt, whose commit was not confirmed, has written the decision."""
        stored = await self._until_available(partial(self.load, decision.run.run_id))
        return stored if run_queries.is_written(decision, stored) else None

    async def _is_taken(self, run: Run) -> bool:
        """Return whether another run of the crew has this run's kickoff id."""
        if run.kickoff_id is None:
            return False
        holder = await self._until_available(partial(self.find_execution, run.crew, run.kickoff_id))
        return holder is not None and holder.run_id != run.run_id

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat the call until the store is available, because no caller could handle the failure."""
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                await self._wait(error)

    async def _wait(self, error: StoreUnavailable, *, retry: bool = True) -> None:
        """Wait before the next attempt; without `retry`, raise the error."""
        if not retry:
            raise error
        log.warning("store_unavailable", reason=str(error), retry_in_s=RETRY_INTERVAL)
        await asyncio.sleep(RETRY_INTERVAL)

    async def _select(self, query: Select[Any]) -> Sequence[Any]:
        return await self._read(lambda connection: connection.execute(query).all())

    async def _read_for_api(self, read: Work[T]) -> T:
        """Read for an API caller, over separate connections, so that API callers never delay the steps."""
        return await self._read(read, self._api_reader)

    async def _read(self, read: Work[T], reader: Connections | None = None) -> T:
        try:
            found: T = await (reader or self._reader).run(read)
        except SQLAlchemyError as error:
            if is_transient(error):
                raise unavailable(error) from None
            raise
        return found
