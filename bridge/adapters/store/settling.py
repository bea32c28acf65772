"""Writing decisions: a run's next row and its new deliveries in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from bridge.adapters.store.accepting import insert_deliveries
from bridge.adapters.store.bulk import Bulk
from bridge.adapters.store.claims import lives
from bridge.adapters.store.rows import CHANGING, Values, changing_columns
from bridge.adapters.store.tables import runs
from bridge.core.errors import ExecutionTaken, Stale
from bridge.core.model import Decision, Run

Refusal = Stale | ExecutionTaken


@dataclass(frozen=True, slots=True)
class Settling:
    """A decision to be written, and which of its deliveries are to be this process's own from the start."""

    decision: Decision
    process: str
    own: frozenset[str] = frozenset()


def settle_all(connection: Connection, settling: Sequence[Settling]) -> list[Run | Refusal]:
    """Write decisions; one whose run has moved on, or whose execution is another run's, gives that as an error."""
    owners = _owners(connection, settling)
    decisions = [one.decision for one in settling]
    if _write_unless_refused(connection, decisions, owners):
        return [_settled(decision.run) for decision in decisions]
    refused = _refusals(connection, decisions)
    written = [decision for decision, refusal in zip(decisions, refused, strict=True) if refusal is None]
    _write(connection, written, owners)
    return [refusal or _settled(decision.run) for decision, refusal in zip(decisions, refused, strict=True)]


def _owners(connection: Connection, settling: Sequence[Settling]) -> dict[str, str]:
    """Whose each delivery is, by its id; nobody's if its process was given up, as nobody would free it again.

    Asked before any run is locked: who gives a process up locks its row first, and its runs after that.
    """
    owners = {delivery_id: one.process for one in settling for delivery_id in one.own}
    return owners if owners and lives(connection, settling[0].process) else {}


_UPDATE_RUN = Bulk(
    lambda _: (
        update(runs)
        .where(runs.c.run_id == bindparam("of_run"), runs.c.version == bindparam("at_version"))
        .values({name: bindparam(name) for name in CHANGING} | {"version": runs.c.version + 1})
    )
)


def _write_unless_refused(connection: Connection, decisions: Sequence[Decision], owners: Mapping[str, str]) -> bool:
    """Write all, as nearly always nothing speaks against it; whether nothing did. Otherwise nothing is written.

    In order, or two processes could wait for each other's rows.
    """
    in_order = sorted(decisions, key=lambda decision: decision.run.run_id)
    try:
        with connection.begin_nested() as attempt:
            if _write(connection, in_order, owners) == len(decisions):
                return True
            attempt.rollback()
    except IntegrityError:  # an execution that belongs to another run
        pass
    return False


def _write(connection: Connection, decisions: Sequence[Decision], owners: Mapping[str, str]) -> int:
    """How many runs were still as they had been read."""
    changed = _UPDATE_RUN.execute(connection, [_run_values(decision.run) for decision in decisions])
    if changed == len(decisions):
        deliveries = [delivery for decision in decisions for delivery in decision.deliveries]
        unaddressed = [event for decision in decisions for event in decision.unaddressed]
        insert_deliveries(connection, deliveries, unaddressed, owners)
    return changed


def _refusals(connection: Connection, decisions: Sequence[Decision]) -> list[Refusal | None]:
    """For each decision why it must not be written; of two about one run, or with one execution, the first goes.

    Asked under a row lock before writing, because one statement for many rows tells only how many it found. Locked in
    order, or two processes could wait for each other.
    """
    ids = {decision.run.run_id for decision in decisions}
    query = select(runs.c.run_id, runs.c.version, runs.c.kickoff_id).where(runs.c.run_id.in_(ids))
    locked = query.order_by(runs.c.run_id).with_for_update()
    rows = {row.run_id: row for row in connection.execute(locked)}
    newcomers = [decision.run for decision in decisions if _brings_execution(decision.run, rows)]
    taken = _executions(connection, newcomers)
    refused: list[Refusal | None] = []
    for run in (decision.run for decision in decisions):
        if run.run_id not in rows or rows[run.run_id].version != run.version:
            refused.append(Stale(f"run {run.run_id} has moved on"))
        elif _brings_execution(run, rows) and (run.crew, run.kickoff_id) in taken:
            refused.append(ExecutionTaken(f"execution {run.kickoff_id} belongs to another run of {run.crew}"))
        else:
            del rows[run.run_id]
            taken.add((run.crew, run.kickoff_id))
            refused.append(None)
    return refused


def _brings_execution(run: Run, rows: Mapping[str, Any]) -> bool:
    """Whether the decision gives its run an execution that it did not have."""
    return run.run_id in rows and run.kickoff_id is not None and rows[run.run_id].kickoff_id != run.kickoff_id


def _executions(connection: Connection, newcomers: Sequence[Run]) -> set[tuple[str, str | None]]:
    """Those of these runs' executions that some run has already."""
    if not newcomers:
        return set()
    query = select(runs.c.crew, runs.c.kickoff_id).where(runs.c.kickoff_id.in_({run.kickoff_id for run in newcomers}))
    return {(row.crew, row.kickoff_id) for row in connection.execute(query)}


def _settled(run: Run) -> Run:
    return replace(run, version=run.version + 1)


def _run_values(run: Run) -> Values:
    return changing_columns(run) | {"of_run": run.run_id, "at_version": run.version}
