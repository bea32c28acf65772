"""Writing decisions: a run's next row and its new deliveries in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.adapters.store.accepting import insert_deliveries
from bridge.adapters.store.rows import CHANGING, Values, changing_columns
from bridge.adapters.store.tables import deliveries, runs
from bridge.core.errors import Stale
from bridge.core.model import Decision, Delivery, Run


async def settle_all(connection: AsyncConnection, decisions: Sequence[Decision]) -> list[Run | Stale]:
    """Write decisions; those whose run has moved on meanwhile change nothing and give `Stale`."""
    marked = await _current(connection, decisions)
    written = [decision for decision, current in marked if current]
    if written:
        await connection.execute(_UPDATE_RUN, [_run_values(decision.run) for decision in written])
    await insert_deliveries(connection, [delivery for decision in written for delivery in decision.deliveries])
    return [_settled(decision.run, written=current) for decision, current in marked]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a delivery, according to the process that claimed it."""

    process: str
    delivery: Delivery


async def settle_deliveries(connection: AsyncConnection, settled: Sequence[Settled]) -> list[None]:
    """Write what became of deliveries, and give them back; one that the process has lost meanwhile is left alone."""
    await connection.execute(_UPDATE_DELIVERY, [_delivery_values(item) for item in settled])
    return [None] * len(settled)


_UPDATE_RUN = (
    update(runs)
    .where(runs.c.run_id == bindparam("of_run"), runs.c.version == bindparam("at_version"))
    .values({name: bindparam(name) for name in CHANGING} | {"version": runs.c.version + 1})
)
_UPDATE_DELIVERY = (
    update(deliveries)
    .where(deliveries.c.delivery_id == bindparam("of_delivery"), deliveries.c.owner == bindparam("by_process"))
    .values(
        {name: bindparam(name) for name in ("state", "attempts", "due_at", "last_error", "delivered_at")}
        | {"owner": None},
    )
)


async def _current(connection: AsyncConnection, decisions: Sequence[Decision]) -> list[tuple[Decision, bool]]:
    """Each decision with whether it was made on its run's present version; of two about one run, only the first was.

    Asked under a row lock before writing, because one statement for many rows tells only how many it found.
    """
    ids = {decision.run.run_id for decision in decisions}
    query = select(runs.c.run_id, runs.c.version).where(runs.c.run_id.in_(ids))
    versions = {row.run_id: row.version for row in await connection.execute(query.with_for_update())}
    return [(decision, versions.pop(decision.run.run_id, None) == decision.run.version) for decision in decisions]


def _settled(run: Run, *, written: bool) -> Run | Stale:
    return replace(run, version=run.version + 1) if written else Stale(f"run {run.run_id} has moved on")


def _run_values(run: Run) -> Values:
    return changing_columns(run) | {"of_run": run.run_id, "at_version": run.version}


def _delivery_values(settled: Settled) -> Values:
    delivery = settled.delivery
    return {
        "of_delivery": delivery.delivery_id,
        "by_process": settled.process,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due_at": delivery.due_at,
        "last_error": delivery.last_error,
        "delivered_at": delivery.delivered_at,
    }
