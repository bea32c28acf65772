"""Writes decisions: a run's next row and its new deliveries in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Update, bindparam, update

from bridge.adapters.store.bulk_statement import BulkStatement
from bridge.adapters.store.group_commit import BatchConflict
from bridge.adapters.store.queries.accept import insert_deliveries
from bridge.adapters.store.queries.claims import delete_retained, is_alive
from bridge.adapters.store.rows import Values, begun_values, mutable_values
from bridge.adapters.store.schema import runs
from bridge.core.delivery.model import Delivery
from bridge.core.runs.model import Decision, Run
from bridge.core.values import replace
from bridge.ports.runs import Conflict


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A decision to write, and those of its new deliveries that this process owns from the start."""

    decision: Decision
    process: str
    own: Sequence[Delivery] = ()


def write_decisions(connection: Connection, write_requests: Sequence[WriteRequest]) -> list[Run | Conflict]:
    """Write decisions; return `Conflict.STALE` for each whose run has changed since it was read.

    Almost always, two or three statements write all of them. If a run has changed, the number of updated rows shows
    it, but not which run it is: then raise `BatchConflict`. The kickoff id of another run violates a constraint.
    """
    owners = _owners(connection, write_requests)
    in_order = sorted((one.decision for one in write_requests), key=lambda decision: decision.run.run_id)
    if _write(connection, in_order, owners) == len(write_requests):
        return [with_next_version(one.decision.run) for one in write_requests]
    if len(write_requests) > 1:
        raise BatchConflict("a run has changed")
    return [Conflict.STALE]


def update_runs(connection: Connection, updated: Sequence[Run]) -> int:
    """Write the next rows of runs whose version is still that of the stored row; return how many there were."""
    return _UPDATE_RUN.execute(connection, [_run_values(run) for run in updated])


def begin_runs(connection: Connection, starting: Sequence[Run]) -> None:
    """Write runs that `state_machine.begin` has changed; the transaction has locked them."""
    rows = [begun_values(run) | {"of_run": run.run_id, "at_version": run.version} for run in starting]
    _BEGIN_RUN.execute(connection, rows)


def is_written(decision: Decision, stored: Run) -> bool:
    """Return whether the stored run is the result of this decision.

    Requests are not compared: they never change, and the caller may hold one without its inputs.
    """
    return replace(stored, request=decision.run.request) == with_next_version(decision.run)


def _update_run(_: Connection) -> Update:
    """Update the columns that a row names; each index that contains one of them is written."""
    return (
        update(runs)
        .where(runs.c.run_id == bindparam("of_run"), runs.c.version == bindparam("at_version"))
        .values(version=runs.c.version + 1)
    )


_UPDATE_RUN, _BEGIN_RUN = BulkStatement(_update_run), BulkStatement(_update_run)


def _owners(connection: Connection, write_requests: Sequence[WriteRequest]) -> dict[str, str]:
    """Return the owner of each delivery by id; none for an expired process, because no other one would release it.

    One batch may contain two names of this process: the one before it expired, and the present one. The check comes
    before any run is locked, because expiring a process locks its row first and then its runs.
    """
    owning = {one.process for one in write_requests if one.own}
    alive = {process for process in owning if is_alive(connection, process)}
    return {new.delivery_id: one.process for one in write_requests if one.process in alive for new in one.own}


def _write(connection: Connection, decisions: Sequence[Decision], owners: Mapping[str, str]) -> int:
    """Update runs, and insert their deliveries if all versions matched; return how many did.

    Runs are locked in the order of their ids, so that there is no deadlock.
    """
    changed = update_runs(connection, [decision.run for decision in decisions])
    if changed == len(decisions):
        deliveries = [delivery for decision in decisions for delivery in decision.deliveries]
        unaddressed = [event for decision in decisions for event in decision.unaddressed]
        insert_deliveries(connection, deliveries, unaddressed, owners)
        delete_retained(connection, [decision.run.run_id for decision in decisions if decision.run.final])
    return changed


def with_next_version(run: Run) -> Run:
    """Return a run as stored once it is written."""
    return replace(run, version=run.version + 1)


def _run_values(run: Run) -> Values:
    return mutable_values(run) | {"of_run": run.run_id, "at_version": run.version}
