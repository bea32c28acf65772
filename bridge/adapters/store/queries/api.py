"""Queries of the HTTP API, over connections of their own, so that no step waits for a caller."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

from bridge.adapters.store.batch_loader import BatchLoader
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.decoding import ReportUndecodable
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.queries import cluster, figures, holds, kickoffs, run_lists
from bridge.adapters.store.queries import deliveries as delivery_queries
from bridge.adapters.store.queries import events as event_queries
from bridge.core.delivery.model import Attempt, Delivery, Event, Receiver
from bridge.core.runs.budget import Budget
from bridge.core.runs.model import Run
from bridge.ports.queries import DeliveryFilter, Page, RunEnds, RunFilter, StoredEvent, StoreFigures, Usage


class SqlQueries:
    """`ports.Queries`."""

    def __init__(self, batches: Batches, connections: Connections, report: ReportUndecodable) -> None:
        self._batches = batches
        self._connections = connections
        self._report = report
        self._peeks = BatchLoader(lambda run_ids: connections.read(partial(run_lists.load_summaries, run_ids=run_ids)))

    async def load_for_api(self, run_id: str) -> Run | None:
        """Load a run for an API caller, separately, because its result may be large."""
        return await self._connections.read(partial(run_lists.load_run, run_id=run_id))

    async def peek(self, run_id: str) -> Run | None:
        return await self._peeks.load(run_id)

    async def find_runs(self, filter_: RunFilter) -> Page[Run]:
        return await self._connections.read(partial(run_lists.runs_page, filter_=filter_, report=self._report))

    async def deliveries_for_run(self, run_id: str) -> list[Delivery]:
        return await self._connections.read(partial(run_lists.deliveries_of_run, run_id=run_id, report=self._report))

    async def find_deliveries(self, filter_: DeliveryFilter) -> list[Delivery]:
        return await self._connections.read(partial(run_lists.deliveries_page, filter_=filter_, report=self._report))

    async def attempts_for_delivery(self, delivery_id: str) -> list[Attempt]:
        return await self._connections.read(partial(run_lists.attempts_for_delivery, delivery_id=delivery_id))

    async def redeliver(self, filter_: DeliveryFilter, now: float) -> int:
        return await self._batches.write_one(partial(delivery_queries.redeliver, filter_=filter_, now=now))

    async def hold_accepted(self, now: float, *, always: bool = True) -> int | None:
        """Hold every accepted run until it is released; return how many were not held before.

        Unless `always`, do so only if the store is a restored backup; otherwise return None.
        """
        return await self._batches.write_one(partial(holds.hold, now=now, always=always))

    async def release(self, run_id: str | None, crews: Collection[str] | None, by: str, now: float) -> int:
        return await self._batches.write_one(partial(holds.release, run_id=run_id, crews=crews, by=by, now=now))

    async def count_redeliverable(self, filter_: DeliveryFilter) -> int:
        return await self._connections.read(partial(delivery_queries.count_redeliverable, filter_=filter_))

    async def discard(self, delivery_id: str, by: str) -> None:
        await self._batches.write_one(partial(delivery_queries.discard, delivery_id=delivery_id, by=by))

    async def failing_receivers(self, crews: Collection[str] | None) -> list[Receiver]:
        return await self._connections.read(partial(delivery_queries.failing_receivers, crews=crews))

    async def resume_receivers(self, name: str | None, crews: Collection[str] | None) -> int:
        return await self._batches.write_one(partial(delivery_queries.resume_receivers, name=name, crews=crews))

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        return await self._connections.read(partial(event_queries.find_events, since=since, limit=limit))

    async def stored_at(self, event_id: str | None = None) -> float | None:
        return await self._connections.read(partial(event_queries.stored_at, event_id=event_id))

    async def load_events(self, event_ids: Collection[str]) -> list[Event]:
        return await self._connections.read(
            partial(event_queries.load_events, event_ids=event_ids, report=self._report)
        )

    async def figures(self, budgets: Mapping[str, Budget], now: float) -> StoreFigures:
        return await self._connections.read(partial(figures.figures, limits=budgets, now=now))

    async def run_ends(self, minutes: Collection[float]) -> Mapping[float, RunEnds]:
        return await self._connections.read(partial(figures.run_ends, minutes=minutes))

    async def usage(self, crews: Mapping[str, Budget | None], senders: Mapping[str, Budget], now: float) -> Usage:
        read = await self._connections.read(partial(kickoffs.usage, crews=crews, senders=senders, now=now))
        return replace(read, writable=not self._batches.failing)

    async def crews_served(self) -> Collection[str]:
        return await self._connections.read(cluster.crews_served)
