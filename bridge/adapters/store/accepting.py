"""Putting requests into the store, each once."""

from collections.abc import Iterable, Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.adapters.store import dialect
from bridge.adapters.store.rows import new_delivery, new_event, new_run, run_of
from bridge.adapters.store.tables import deliveries, events, runs
from bridge.core.errors import RequestRefused
from bridge.core.model import Delivery, Run
from bridge.ports import Accepted

REMEMBER_UNKEYED = 3600.0  # seconds for which a redelivered message without a key is recognised by its content

_Key = tuple[str, str, str | None]


async def accept_all(connection: AsyncConnection, new: Sequence[Run]) -> list[Accepted | RequestRefused]:
    """Insert runs; a key that is taken leads to the run that took it.

    Messages that may be copies of one another come after the others and one at a time, so that each sees the last.
    """
    seen_before: dict[str, Run] = {}
    certain = [run for run in new if not _may_be_a_copy(run)]
    await _insert(connection, certain)
    for run in filter(_may_be_a_copy, new):
        if (found := await _earlier_copy(connection, run)) is None:
            await _insert(connection, [run])
        else:
            seen_before[run.run_id] = found
    holders = await _holders(connection, certain)
    return [_answer(run, seen_before.get(run.run_id) or holders.get(_key(run))) for run in new]


async def file_all(connection: AsyncConnection, groups: Sequence[Sequence[Delivery]]) -> list[None]:
    """Insert deliveries with their events."""
    await insert_deliveries(connection, [delivery for group in groups for delivery in group])
    return [None] * len(groups)


async def insert_deliveries(connection: AsyncConnection, new: Iterable[Delivery]) -> None:
    """Insert deliveries and, once each, the events that they carry."""
    wanted = list(new)
    if wanted:
        carried = {delivery.event.event_id: delivery.event for delivery in wanted}
        await connection.execute(events.insert(), [new_event(event) for event in carried.values()])
        await connection.execute(deliveries.insert(), [new_delivery(delivery) for delivery in wanted])


def _answer(run: Run, holder: Run | None) -> Accepted | RequestRefused:
    if holder is None or holder.run_id == run.run_id:
        return Accepted(run, replayed=False)
    if holder.fingerprint == run.fingerprint:
        return Accepted(holder, replayed=True)
    return RequestRefused(
        "idempotency_conflict",
        "the same key was used before for a request with other content",
        "idempotency_key",
    )


def _may_be_a_copy(run: Run) -> bool:
    return run.envelope.redelivered and run.request.idempotency_key is None


async def _earlier_copy(connection: AsyncConnection, run: Run) -> Run | None:
    """The run that an earlier delivery of the same keyless message made."""
    query = select(runs).where(
        runs.c.idempotency_key.is_(None),
        runs.c.fingerprint == run.fingerprint,
        runs.c.source == run.envelope.source,
        runs.c.accepted_at >= run.accepted_at - REMEMBER_UNKEYED,
    )
    row = (await connection.execute(query.order_by(runs.c.run_id.desc()).limit(1))).first()
    return None if row is None else run_of(row)


async def _holders(connection: AsyncConnection, fresh: Sequence[Run]) -> dict[_Key, Run]:
    """Who holds each key now: the new run itself, or the one that was there before."""
    keys = [_key(run) for run in fresh if run.request.idempotency_key is not None]
    if not keys:
        return {}
    columns = tuple_(runs.c.source, runs.c.crew, runs.c.idempotency_key)
    found = [run_of(row) for row in await connection.execute(select(runs).where(columns.in_(keys)))]
    return {_key(run): run for run in found}


def _key(run: Run) -> _Key:
    return run.envelope.source, run.crew, run.request.idempotency_key


async def _insert(connection: AsyncConnection, fresh: Sequence[Run]) -> None:
    if fresh:
        await connection.execute(dialect.insert_new(connection, runs), [new_run(run) for run in fresh])
