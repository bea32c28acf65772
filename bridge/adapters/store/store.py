"""Implements the port of runs, which documents the operations, on a SQL database, and assembles the other ports.

Every write goes through `Batches`. The version guards a run's row: an update that finds another version changes
nothing, and its caller gets `Conflict.STALE`.
"""

import math
import secrets
from collections.abc import Callable, Collection
from functools import partial

import structlog
from sqlalchemy import Connection, delete, select

from bridge.adapters.store import dialect
from bridge.adapters.store.batch_loader import BatchLoader
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.decoding import UndecodableReports, postpone
from bridge.adapters.store.group_commit import Batches, Transaction
from bridge.adapters.store.ownership import Ownership
from bridge.adapters.store.queries import accept, claims, kickoffs, run_lists
from bridge.adapters.store.queries.api import SqlQueries
from bridge.adapters.store.queries.cluster import SqlCluster
from bridge.adapters.store.queries.commands import SqlCommands
from bridge.adapters.store.queries.deliveries import SqlDeliveries
from bridge.adapters.store.queries.inbox import SqlWebhookInbox
from bridge.adapters.store.queries.run_times import SqlRunTimes
from bridge.adapters.store.schema import store_metadata
from bridge.core.errors import StoreBroken, StoreDamaged, StoreUnavailable
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Decision, Run, State
from bridge.observability.logging import log_fault
from bridge.ports.inbound import Accepted
from bridge.ports.lifecycle import Health, ReportFault
from bridge.ports.metrics import StoreMetrics
from bridge.ports.runs import Conflict

UNCOUNTED = StoreMetrics()
_PROBE = "probe"  # a row of `store_metadata`

log = structlog.get_logger()


class SqlStore:
    """Stores runs in a SQL database; its other roles are its attributes.

    `process`: the name of this process; `key`: the store's secret, from which webhook tokens are derived; `shared`:
    other processes may use the store; `api_reader`: connections for queries of API callers; `metrics`: what is counted.
    """

    def __init__(
        self,
        reader: Connections,
        transaction: Transaction,
        process: str,
        key: bytes,
        verify: Callable[[], None] = lambda: None,
        *,
        shared: bool,
        crews: Collection[str] = (),
        api_reader: Connections | None = None,
        report: ReportFault = log_fault,
        metrics: StoreMetrics = UNCOUNTED,
    ) -> None:
        self.key, self.shared, served = key, shared, set(crews)
        self._report_undecodable = undecodable = UndecodableReports(report)
        self.verify = verify  # raises `StoreReplaced`
        self._metrics = metrics
        self._reader = reader
        self._loads = BatchLoader(lambda run_ids: reader.read(partial(run_lists.load_runs, run_ids=run_ids)))
        self._batches = Batches(transaction, metrics.committed)
        self.ownership = Ownership(process, self._batches, reader, undecodable)
        self.cluster = SqlCluster(self._batches, reader, self.ownership, served)
        self.deliveries = SqlDeliveries(self._batches, self.ownership)
        self.queries = SqlQueries(self._batches, api_reader or reader, undecodable)
        self.run_times = SqlRunTimes(self._batches, reader, undecodable)
        self.commands = SqlCommands(self._batches, reader)
        self.inbox = SqlWebhookInbox(self._batches, reader, self.ownership, served)
        self._free_slots = kickoffs.FreeSlots(shared=shared)

    async def accept(self, run: Run) -> Accepted:
        return await self._batches.write(accept.accept_all, run)

    async def claim_accepted(
        self,
        crew: str,
        limit: int,
        max_running: int,
        now: float,
        limits: Budgets = UNLIMITED,
        max_bytes: float = math.inf,
    ) -> list[Run]:
        request = kickoffs.ClaimAccepted(
            self.ownership.process, crew, limit, max_running, now, self._free_slots, limits, max_bytes
        )
        claimed: list[Run] = await self.ownership.claim(kickoffs.claim_accepted, request)
        for run in claimed:
            self._metrics.claimed(run)
        return claimed

    def short_of_slots(self, crew: str) -> bool:
        return self._free_slots.short(crew)

    async def find_expired(self, crews: Collection[str], limit: int, now: float) -> list[Run]:
        find = partial(kickoffs.find_expired, crews=crews, limit=limit, now=now)
        found, undecodable = await self._reader.read(find)
        if undecodable:
            await self._batches.write_one(partial(postpone, undecodable=undecodable, now=now))
            self._report_undecodable(undecodable)
        return found

    async def claim(
        self, states: Collection[State], crews: Collection[str], limit: int, now: float | None = None
    ) -> list[Run]:
        request = claims.ClaimInStates(self.ownership.process, frozenset(states), crews, limit, now)
        return await self.ownership.claim(claims.claim_runs, request)

    async def apply(self, decision: Decision, *, retry: bool = True) -> Run | Conflict:
        written = await self.ownership.apply(decision, retry=retry)
        if written is Conflict.STALE:
            log.info("stale_write_discarded", **decision.run.log_fields)
            self._metrics.stale_write()
        elif isinstance(written, Run) and decision.ends_run:
            self._metrics.ended(written)
        return written

    async def load(self, run_id: str) -> Run | None:
        """Load a run, in a batch with others."""
        return await self._loads.load(run_id)

    async def find_execution(self, crew: str, kickoff_id: str) -> Run | None:
        return await self._reader.read(partial(run_lists.find_execution, crew=crew, kickoff_id=kickoff_id))

    async def find_key(self, source: str, crew: str, key: str) -> Run | None:
        return await self._reader.read(partial(run_lists.find_key, source=source, crew=crew, key=key))

    def owned_elsewhere(self, run: Run) -> bool:
        return run.owner not in {None, self.ownership.process}

    async def health(self) -> Health:
        """Return whether the store can be read and, judging by its last transaction, written."""
        try:
            await self._reader.read(lambda connection: connection.execute(select(1)))
        except (StoreUnavailable, StoreBroken, StoreDamaged):
            return Health(ok=False, detail="cannot be read")
        if self._batches.failing:  # until the next write succeeds, at the latest a heartbeat
            return Health(ok=False, detail="cannot be written")
        return Health(ok=True, detail="readable and writable")

    async def probe(self, size: int) -> None:
        """Check that `size` bytes can be written, and remove them; raises `StoreUnavailable`.

        Small updates still succeed on a full disk.
        """
        await self._batches.write_one(partial(_write_probe, size=size))
        await self._batches.write_one(_remove_probe)

    async def close(self) -> None:
        """Commit pending writes, release every claim, and remove this process."""
        await self._batches.drain()
        try:
            await self.ownership.release()  # first, because a released run that is `starting` is in doubt
            await self.cluster.leave()
        except StoreUnavailable as error:  # the next heartbeat of another process releases them
            log.warning("claim_release_failed", reason=str(error))


def _write_probe(connection: Connection, size: int) -> None:
    """Write `size` incompressible bytes."""
    probe = {"name": _PROBE, "value": secrets.token_bytes(size)}
    connection.execute(dialect.insert_or_replace(connection, store_metadata).values(probe))


def _remove_probe(connection: Connection) -> None:
    connection.execute(delete(store_metadata).where(store_metadata.c.name == _PROBE))
