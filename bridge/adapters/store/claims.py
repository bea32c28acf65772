"""Ownership: who works on which rows.

A process owns rows, not moments: it claims them and owns them while its heartbeat lives. Freeing a row raises its
version, so that a process that was only asleep finds out and drops its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.adapters.store.rows import delivery_of, run_of
from bridge.adapters.store.tables import deliveries, events, processes, runs
from bridge.core.model import Channel, Delivery, DeliveryState, Run, State

_HOLDS_A_PLACE = (State.STARTING.value, State.RUNNING.value, State.WAITING_FOR_HUMAN.value)


@dataclass(frozen=True, slots=True)
class OfCrew:
    """Due accepted runs of one crew, no more than keep it within `max_running`."""

    process: str
    crew: str
    room: int
    max_running: int
    now: float


@dataclass(frozen=True, slots=True)
class InStates:
    """Runs in some states that nobody owns; with `now`, only those that are due."""

    process: str
    states: frozenset[State]
    room: int
    now: float | None


@dataclass(frozen=True, slots=True)
class DueDeliveries:
    """Due deliveries of some channels."""

    process: str
    channels: tuple[Channel, ...]
    room: int
    now: float


async def claim_runs(connection: AsyncConnection, wishes: Sequence[OfCrew | InStates]) -> list[list[Run]]:
    """Take the rows that each wish asks for."""
    return [await _claim_runs(connection, wish) for wish in wishes]


async def claim_deliveries(connection: AsyncConnection, wishes: Sequence[DueDeliveries]) -> list[list[Delivery]]:
    """Take the deliveries that each wish asks for."""
    return [await _claim_deliveries(connection, wish) for wish in wishes]


async def bury(connection: AsyncConnection, silent_since: float) -> int:
    """Release everything that belongs to processes without a sign of life since then, and forget them."""
    silent = select(processes.c.name).where(processes.c.beat_at < silent_since)
    names = (await connection.execute(silent)).scalars().all()
    if names:
        await release(connection, names)
    return len(names)


async def release(connection: AsyncConnection, names: Sequence[str]) -> None:
    """Give back every row of these processes and forget them."""
    mine = runs.c.owner.in_(names)
    await connection.execute(update(runs).where(mine).values(owner=None, version=runs.c.version + 1))
    await connection.execute(update(deliveries).where(deliveries.c.owner.in_(names)).values(owner=None))
    await connection.execute(delete(processes).where(processes.c.name.in_(names)))


async def _claim_runs(connection: AsyncConnection, wish: OfCrew | InStates) -> list[Run]:
    query = await _due_runs(connection, wish)
    if query is None:
        return []
    ids = (await connection.execute(query.with_for_update(skip_locked=True))).scalars().all()
    if not ids:
        return []
    taken = update(runs).where(runs.c.run_id.in_(ids)).values(owner=wish.process, version=runs.c.version + 1)
    rows = {row.run_id: row for row in await connection.execute(taken.returning(runs))}
    return [run_of(rows[run_id]) for run_id in ids]


async def _due_runs(connection: AsyncConnection, wish: OfCrew | InStates) -> Select[str] | None:
    if isinstance(wish, InStates):
        query = select(runs.c.run_id).where(runs.c.state.in_(sorted(wish.states)), runs.c.owner.is_(None))
        due = query if wish.now is None else query.where(runs.c.due_at <= wish.now)
        return due.order_by(runs.c.due_at, runs.c.run_id).limit(wish.room)
    free = wish.max_running - (await connection.execute(_places_held(wish))).scalar_one()
    if free <= 0:
        return None
    query = select(runs.c.run_id).where(
        runs.c.state == State.ACCEPTED.value,
        runs.c.crew == wish.crew,
        runs.c.owner.is_(None),
        runs.c.due_at <= wish.now,
    )
    return query.order_by(runs.c.priority.desc(), runs.c.run_id).limit(min(free, wish.room))


def _places_held(wish: OfCrew) -> Select[int]:
    """Runs that are under way, or claimed to be; a run in doubt holds its place until its evidence is overdue."""
    under_way = runs.c.state.in_(_HOLDS_A_PLACE)
    claimed = (runs.c.state == State.ACCEPTED.value) & runs.c.owner.is_not(None)
    doubted = (runs.c.state == State.IN_DOUBT.value) & (runs.c.due_at > wish.now)
    return select(func.count()).where(runs.c.crew == wish.crew, or_(under_way, claimed, doubted))


async def _claim_deliveries(connection: AsyncConnection, wish: DueDeliveries) -> list[Delivery]:
    due = (
        select(deliveries.c.delivery_id)
        .where(
            deliveries.c.state == DeliveryState.PENDING.value,
            deliveries.c.channel.in_([channel.value for channel in wish.channels]),
            deliveries.c.owner.is_(None),
            deliveries.c.due_at <= wish.now,
        )
        .order_by(deliveries.c.due_at)
        .limit(wish.room)
    )
    ids = (await connection.execute(due.with_for_update(skip_locked=True))).scalars().all()
    if not ids:
        return []
    await connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(ids)).values(owner=wish.process))
    full = select(deliveries, events).join(events).where(deliveries.c.delivery_id.in_(ids))
    return [delivery_of(row) for row in await connection.execute(full.order_by(deliveries.c.due_at))]
