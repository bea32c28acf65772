"""Queries of the HTTP API, over connections of their own, so that no step waits for a caller."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from bridge.adapters.store.batch_loader import BatchLoader
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.decoding import ReportUndecodable
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.queries import cluster, deliveries, events, holds, kickoffs, run_lists
from bridge.adapters.store.queries import figures as counts
from bridge.core.runs.budget import Budget
from bridge.core.runs.model import Run
from bridge.ports.queries import Usage

P = ParamSpec("P")
T = TypeVar("T")
Answer = Callable[Concatenate["SqlQueries", P], Coroutine[Any, Any, T]]


def _read(query: Callable[Concatenate[Connection, P], T]) -> Answer[P, T]:
    async def answer(self: "SqlQueries", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.connections.read(lambda connection: query(connection, *args, **kwargs))

    return answer


def _list(query: Callable[Concatenate[Connection, ReportUndecodable, P], T]) -> Answer[P, T]:
    """Read rows of which some may not be decodable."""

    async def answer(self: "SqlQueries", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.connections.read(lambda connection: query(connection, self.report, *args, **kwargs))

    return answer


def _write(statement: Callable[Concatenate[Connection, P], T]) -> Answer[P, T]:
    async def answer(self: "SqlQueries", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.batches.write_one(lambda connection: statement(connection, *args, **kwargs))

    return answer


class SqlQueries:
    """`ports.Queries`: each call runs one of the functions beside this module in a transaction."""

    def __init__(self, batches: Batches, connections: Connections, report: ReportUndecodable) -> None:
        self.batches = batches
        self.connections = connections
        self.report = report
        self._peeks = BatchLoader(lambda run_ids: connections.read(partial(run_lists.load_summaries, run_ids=run_ids)))

    load_for_api = _read(run_lists.load_run)
    find_runs = _list(run_lists.runs_page)
    hold_accepted = _write(holds.hold)
    release = _write(holds.release)

    deliveries_for_run = _list(run_lists.deliveries_of_run)
    find_deliveries = _list(run_lists.deliveries_page)
    attempts_for_delivery = _read(run_lists.attempts_for_delivery)
    redeliver = _write(deliveries.redeliver)
    count_redeliverable = _read(deliveries.count_redeliverable)
    discard = _write(deliveries.discard)
    failing_receivers = _read(deliveries.failing_receivers)
    resume_receivers = _write(deliveries.resume_receivers)

    find_events = _read(events.find_events)
    stored_at = _read(events.stored_at)
    load_events = _list(events.load_events)

    figures = _read(counts.figures)
    run_ends = _read(counts.run_ends)
    crews_served = _read(cluster.crews_served)

    async def peek(self, run_id: str) -> Run | None:
        return await self._peeks.load(run_id)

    async def usage(self, crews: Mapping[str, Budget | None], senders: Mapping[str, Budget], now: float) -> Usage:
        read = await self.connections.read(partial(kickoffs.usage, crews=crews, senders=senders, now=now))
        return replace(read, writable=not self.batches.failing)
