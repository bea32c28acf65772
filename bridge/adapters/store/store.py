"""The store behind `ports.Store`: which statements each operation consists of.

Every write goes through `Batches`. A run's row is guarded by its version: an update that finds another version changes
nothing and its caller gets `Stale`.
"""

import asyncio
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
from bridge.adapters.store.decoding import UndecodableReports, readable
from bridge.adapters.store.errors import is_transient, unavailable
from bridge.adapters.store.free_slots import FreeSlots
from bridge.adapters.store.group_commit import Batches, Transaction
from bridge.adapters.store.local_handoff import LocalHandoff
from bridge.adapters.store.queries import accept, budgets, callbacks, claims, cluster, retention, run_lists, run_times
from bridge.adapters.store.queries import deliveries as delivery_queries
from bridge.adapters.store.queries import events as event_queries
from bridge.adapters.store.queries import runs as run_queries
from bridge.adapters.store.queries.commands import SqlCommands
from bridge.adapters.store.rows import run_from_row
from bridge.adapters.store.schema import runs
from bridge.core.crew.fair_share import Membership
from bridge.core.delivery.model import Attempt, Channel, Delivery, Event
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.errors import ExecutionTaken, ProcessExpired, Stale, StoreBroken, StoreDamaged, StoreUnavailable
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Decision, Run, RunTime, State
from bridge.observability.logging import log_fault
from bridge.ports.inbound import Accepted
from bridge.ports.lifecycle import Health, ReportFault
from bridge.ports.queries import DeliveryFilter, Page, RunFilter, StoredEvent
from bridge.ports.store import RelayedWebhook

RETRY_EVERY = 1.0  # seconds between tries of a write that must not be lost

T = TypeVar("T")

log = structlog.get_logger()


class SqlStore:
    """Runs, events and deliveries in one SQL database.

    `process` is this process's name in it, `key` the store's own secret; `on_stale` is called for each discarded stale
    write. `shared`: other processes may use it. `api_reader`: connections for queries of the API.
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
        self._on_stale = on_stale
        self._reader = reader
        self._api_reader = api_reader or reader
        self._loads = BatchLoader(lambda run_ids: self._reading(partial(run_lists.whole_runs, run_ids=run_ids)))
        self._peeks = BatchLoader(lambda run_ids: self._querying(partial(run_lists.peeked, run_ids=run_ids)))
        self._batches = Batches(transaction)
        self._claimer = Claimer(self._batches, self._report)
        self._handoff = LocalHandoff()
        self.commands = SqlCommands(self._batches.write_one, self._reading)
        self._free_slots = None if shared else FreeSlots()
        self._name, self._process, self._lives = process, process, 1

    async def accept(self, run: Run) -> Accepted:
        """Store a new run, or find the one made before; raises `RequestRefused` for a key used with other content."""
        return await self._batches.write(accept.accept_all, run)

    async def file(self, new: Sequence[Delivery]) -> None:
        """Store deliveries that belong to no run."""
        await self._batches.write(accept.file_all, new)

    async def claim_accepted(
        self, crew: str, room: int, max_running: int, now: float, limits: Budgets = UNLIMITED
    ) -> list[Run]:
        """Take due accepted runs of a crew, by priority and age, as far as `max_running` and the budgets permit."""
        wanted = claims.ClaimAccepted(self._process, crew, room, max_running, now, limits, self._free_slots)
        return await self._claimer.claim(claims.claim_runs, wanted)

    async def seconds_until_budget(self, run: Run, limits: Budgets, now: float) -> float:
        """For how many seconds a waiting run has to wait for its budgets, as far as can be foreseen."""
        return await self._reading(lambda connection: budgets.seconds_until_budget(connection, run, limits, now))

    async def claim(
        self, states: Collection[State], room: int, now: float | None = None, crews: Collection[str] | None = None
    ) -> list[Run]:
        """Claim unowned runs, of these crews or all: due by `now`, or never, then without inputs and meta."""
        return await self._claimer.claim(
            claims.claim_runs, claims.ClaimInStates(self._process, frozenset(states), room, now, crews)
        )

    async def apply(self, decision: Decision, *, retry: bool = True) -> Run:
        """Write a decision, with `retry` until the store is available; raise `Stale` or `ExecutionTaken`.

        Without `retry`, new deliveries stay unclaimed, because the caller may repeat the write.
        """
        own = self._handoff.ids_to_own(decision.deliveries) if retry else frozenset[str]()
        request = run_queries.WriteRequest(decision, self._process, own)
        try:
            written_run = await self._apply(request, retry=retry)
        except asyncio.CancelledError:  # it may be written all the same
            if own:
                self._claimer.unconfirmed(request.claimed_rows())
            raise
        self._handoff.add([delivery for delivery in decision.deliveries if delivery.delivery_id in own])
        return written_run

    async def _apply(self, request: run_queries.WriteRequest, *, retry: bool) -> Run:
        tried_before = False
        while True:
            try:
                written_run = await self._batches.write(run_queries.write_decisions, request)
            except StoreUnavailable as error:
                await self._wait(error, retry=retry)
                tried_before = True
            except IntegrityError:
                await self._raise_if_taken(request.decision.run)
                raise
            except Stale:
                if tried_before and (written := await self._find_written(request.decision)) is not None:
                    return written
                if (
                    tried_before and request.own
                ):  # before the caller decides again and writes deliveries of the same ids
                    await self._until_available(partial(self._claimer.release, request.claimed_rows()))
                self._on_stale()
                raise
            else:
                return written_run

    async def load(self, run_id: str) -> Run | None:
        """One run."""
        return await self._loads.load(run_id)

    async def show(self, run_id: str) -> Run | None:
        """One run for a caller of the API, read by itself, as its result may be large."""
        return await self._querying(partial(run_lists.whole_run, run_id=run_id))

    async def peek(self, run_id: str) -> Run | None:
        """How a run stands, without its inputs, meta, progress and result."""
        return await self._peeks.load(run_id)

    async def find_execution(self, crew: str, kickoff_id: str) -> Run | None:
        """The newest run of a crew whose execution has this id."""
        query = select(runs).where(runs.c.crew == crew, runs.c.kickoff_id == kickoff_id)
        return next(map(run_from_row, await self._read(query.order_by(runs.c.run_id.desc()).limit(1))), None)

    async def find_key(self, source: str, crew: str, key: str) -> Run | None:
        """The run that a sender's idempotency key led to."""
        of = (runs.c.source == source, runs.c.crew == crew, runs.c.idempotency_key == key)
        return next(map(run_from_row, await self._read(select(runs).where(*of))), None)

    async def find_runs(self, which: RunFilter) -> Page[Run]:
        """Runs, newest first, without their inputs and large results; a page is bounded in bytes as well."""
        return await self._querying(partial(run_lists.runs_page, which=which, report=self._report))

    async def claim_deliveries(self, channels: Sequence[Channel], room: int, now: float) -> list[Delivery]:
        """Take due deliveries of these channels: this process's own, then the longest due of the others."""
        for_others = self._handoff.store_share(room, now)
        own = self._handoff.take(channels, room - for_others, now)
        if own and not for_others:
            return own
        wanted = claims.ClaimDeliveries(self._process, tuple(channels), room - len(own), now)
        try:
            claimed = await self._claimer.claim(claims.claim_deliveries, wanted)
        except StoreUnavailable:
            if own:
                return own  # no other process would send them
            raise
        self._handoff.store_returned(len(claimed), wanted.room, now)
        return own + claimed + self._handoff.take(channels, wanted.room - len(claimed), now)

    async def claim_callbacks(self, room: int, shares: ConcurrencyLimits, now: float) -> list[Delivery]:
        """Take due deliveries to callback URLs, the longest due first within the shares of their receivers."""
        return await self._claimer.claim(
            callbacks.claim_callbacks, claims.ClaimCallbacks(self._process, room, shares, now)
        )

    async def record_outcome(self, outcome: DeliveryOutcome) -> None:
        """Write what became of a claimed delivery, trying for as long as it takes."""
        written_run = delivery_queries.OwnedOutcome(self._process, outcome)
        await self._until_available(partial(self._batches.write, delivery_queries.write_outcomes, written_run))

    async def deliveries_for_run(self, run_id: str) -> list[Delivery]:
        """The deliveries of one run, without the bodies of their events."""
        return await self._querying(partial(run_lists.deliveries_of_run, run_id=run_id, report=self._report))

    async def join(self, now: float) -> None:
        """Become one of the processes that may own rows."""
        await self._batches.write_one(partial(claims.join, process=self._process, crews=self._crews, now=now))

    async def find_deliveries(self, which: DeliveryFilter) -> list[Delivery]:
        """Deliveries, the newest first, without the bodies of their events."""
        return await self._querying(partial(run_lists.deliveries_page, which=which, report=self._report))

    async def redeliver(self, which: DeliveryFilter, now: float) -> int:
        """Have deliveries sent again, at once and with a whole schedule; how many."""
        return await self._batches.write_one(partial(delivery_queries.redeliver, which=which, now=now))

    async def attempts_for_delivery(self, delivery_id: str) -> list[Attempt]:
        """The attempts of one delivery that are kept, the first one first."""
        return await self._querying(partial(run_lists.attempts_for_delivery, delivery_id=delivery_id))

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        """The first events about runs that were stored since then, in the order in which they were stored."""
        return await self._querying(partial(event_queries.entries, since=since, limit=limit))

    async def stored_at(self, event_id: str | None = None) -> float | None:
        """When an event was stored, or without an id the newest one; None if there is none."""
        return await self._querying(partial(event_queries.stored_at, event_id=event_id))

    async def load_events(self, event_ids: Collection[str]) -> list[Event]:
        """The first of these events, as many as fit; the oldest first."""
        return await self._querying(partial(event_queries.whole, event_ids=event_ids, report=self._report))

    async def heartbeat(self, now: float) -> None:
        """Record a heartbeat; raise `ProcessExpired` if other processes expired this one.

        First, and beside the writer, which may wait for their locks, the sessions of stopped processes are ended.
        """
        await self._reading(dialect.end_idle_sessions)
        if not await self._batches.write_one(partial(claims.heartbeat, process=self._process, now=now)):
            raise ProcessExpired("this process was silent for too long")
        if unclaimed := self._handoff.take_unclaimed(now):
            await self._claimer.release_or_keep([delivery.delivery_id for delivery in unclaimed], self._process)

    async def expire_processes(self, now: float, silent_for: float) -> int:
        """Release what belongs to processes without a heartbeat for so long."""
        return await self._batches.write_one(partial(claims.expire_processes, now=now, silent_for=silent_for))

    async def rejoin(self, now: float) -> str:
        """After `ProcessExpired`: join under another name, which is returned, owning nothing."""
        self._lives += 1
        self._process = f"{self._name}-{self._lives}"
        self._handoff.clear()
        await self.join(now)
        return self._process

    def owned_elsewhere(self, run: Run) -> bool:
        """Whether another process owns this run."""
        return run.owner not in {None, self._process}

    async def membership(self) -> dict[str, Membership]:
        """For each crew that this process serves: how many processes do so, and how many runs are under way."""
        return await self._reading(partial(cluster.count, process=self._process, crews=self._crews))

    async def is_served(self, crew: str) -> bool:
        """Whether this process or another one serves the crew."""
        return crew in self._crews or crew in await self._reading(cluster.served)

    async def unserved(self) -> dict[str, int]:
        """How many runs that have not ended there are of each crew that no process serves."""
        return await self._reading(cluster.unserved)

    async def release_runs(self, run_ids: Collection[str]) -> int:
        """Release running runs that this process no longer tracks; return how many."""
        return await self._batches.write_one(
            partial(cluster.release_runs, process=self._process, run_ids=list(run_ids))
        )

    async def relay_webhook(self, webhook: RelayedWebhook) -> None:
        """Store a crew webhook for the process that owns its run."""
        await self._batches.write(cluster.relay_webhook, webhook)

    async def collect_webhooks(self, room: int) -> list[RelayedWebhook]:
        """Take at most `room` relayed webhooks for runs of this process."""
        return await self._batches.write_one(
            partial(cluster.collect, process=self._process, crews=self._crews, room=room)
        )

    async def store_run_times(self, crew: str, new: Sequence[RunTime], since: float, most: int) -> None:
        """Add run times of a crew; of all that it has, only the last `most` are kept that ended since then."""
        await self._batches.write_one(partial(run_times.keep, crew=crew, new=new, since=since, most=most))

    async def run_times(self, crew: str, after: float, most: int) -> list[RunTime]:
        """The last `most` run times of a crew that ended after then, the newest first."""
        found = await self._read(run_times.ended_after(crew, after, most))
        return readable(found, run_times.run_time_from_row, "run_id", self._report)

    async def forget(self, ended_before: float, most: int) -> int:
        """Delete at most so many runs that ended before then and have nothing left to deliver."""
        return await self._batches.write_one(partial(retention.forget, ended_before=ended_before, most=most))

    async def health(self) -> Health:
        """Return whether the store can be read and, as far as its latest transaction tells, written."""
        try:
            await self._read(select(1))
        except (StoreUnavailable, StoreBroken, StoreDamaged):
            return Health(ok=False, detail="cannot be read")
        if self._batches.failing:  # at the latest, the next heartbeat shows that it recovered
            return Health(ok=False, detail="cannot be written")
        return Health(ok=True, detail="readable and writable")

    async def probe(self, size: int) -> None:
        """Write so many bytes and remove them; raises `StoreUnavailable` if that is not possible now."""
        await self._batches.write_one(partial(probing.fill, size=size))
        await self._batches.write_one(probing.clear)

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many runs per state and deliveries per state."""
        return await self._querying(run_lists.counts)

    async def close(self) -> None:
        """Commit pending writes, release every claim, and remove this process."""
        await self._batches.drain()
        try:
            await self._batches.write_one(partial(claims.release, names=[self._process]))
        except StoreUnavailable as error:  # the next process frees them
            log.warning("claims_not_released", reason=str(error))

    async def _find_written(self, decision: Decision) -> Run | None:
        """The run, if it is what an earlier try has made of it, whose commit was not confirmed."""
        stored = await self._until_available(partial(self.load, decision.run.run_id))
        return stored if run_queries.is_written(decision, stored) else None

    async def _raise_if_taken(self, run: Run) -> None:
        """Raises `ExecutionTaken` if another run of the crew has the run's execution."""
        if run.kickoff_id is None:
            return
        holder = await self._until_available(partial(self.find_execution, run.crew, run.kickoff_id))
        if holder is not None and holder.run_id != run.run_id:
            raise ExecutionTaken(f"execution {run.kickoff_id} belongs to another run of {run.crew}")

    async def _until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat the call until the store is available, because no caller could handle the failure."""
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                await self._wait(error)

    async def _wait(self, error: StoreUnavailable, *, retry: bool = True) -> None:
        """Wait before the next try; without `retry`, raise the error."""
        if not retry:
            raise error
        log.warning("store_unavailable", reason=str(error), retry_in_s=RETRY_EVERY)
        await asyncio.sleep(RETRY_EVERY)

    async def _read(self, query: Select[Any]) -> Sequence[Any]:
        return await self._reading(lambda connection: connection.execute(query).all())

    async def _querying(self, read: Work[T]) -> T:
        """Read for the API, whose callers wait for one another, and never the bridge's own steps for them."""
        return await self._reading(read, self._api_reader)

    async def _reading(self, read: Work[T], reader: Connections | None = None) -> T:
        try:
            found: T = await (reader or self._reader).run(read)
        except SQLAlchemyError as error:
            if is_transient(error):
                raise unavailable(error) from None
            raise
        return found
