"""Checks whether a store is intact: its pages and its schema, and that its rows agree with each other."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Select, and_, func, inspect, literal, or_, select
from sqlalchemy.exc import DatabaseError

from bridge.adapters.store.database import database, refuse_newer, refuse_unfinished_copy, revision
from bridge.adapters.store.decoding import decode_rows
from bridge.adapters.store.rows import run_from_row
from bridge.adapters.store.schema import (
    BACKUP,
    REVISION,
    deliveries,
    events,
    metadata,
    processes,
    runs,
    store_metadata,
)
from bridge.core.errors import StoreDamaged, StoreUnavailable
from bridge.core.runs.model import FINAL_STATES
from bridge.ports.lifecycle import Health

SHOWN = 3  # problems of a kind that are named
_FINAL_STATES = [state.value for state in FINAL_STATES]
_FINAL_EVENTS = [f"run.{state}" for state in _FINAL_STATES]


def check_store(url: str, *, pooler: bool = False) -> dict[str, Health]:
    """Return what was checked, and whether it is intact. Nothing is changed; processes may use the store meanwhile.

    An older schema is intact, but its rows are not checked. Raises `StoreUnavailable` if the store does not exist, is
    empty, unreachable, an unfinished copy, or of a newer version.
    """
    base, found = database(url, pooler=pooler), dict[str, Health]()
    try:
        with base.snapshot() as connection:
            for name, health in _check(connection):
                found[name] = health
    except StoreDamaged as error:
        found["pages"] = Health(ok=False, detail=str(error))
    except DatabaseError as error:
        raised = base.opening_error(error)
        if not isinstance(raised, StoreDamaged):
            raise raised from None
        found["pages"] = Health(ok=False, detail=str(raised))
    return found


def _check(connection: Connection) -> Iterator[tuple[str, Health]]:
    """Yield each check with its result; rows are read only if the pages and the schema are intact."""
    if connection.dialect.name == "sqlite":
        yield "pages", (pages := _check_pages(connection))
        if not pages.ok:
            return
    if (found := revision(connection)) is None:
        raise StoreUnavailable("the store is empty")
    refuse_newer(found)
    if found != REVISION:
        yield "schema", Health(ok=True, detail=f"{found}; `run` migrates it to {REVISION}, and rows were not checked")
        return
    yield "schema", (schema := _check_schema(connection))
    if not schema.ok:
        return
    refuse_unfinished_copy(connection)
    yield "references", _check_references(connection)
    yield "runs", _check_runs(connection)
    yield "final events", _check_final_events(connection)
    yield "owners", _check_owners(connection)
    if (made_at := _made_at(connection)) is not None:
        yield "backup", Health(ok=True, detail=f"made at {made_at}; `run` will hold the runs that are accepted")


def _check_pages(connection: Connection) -> Health:
    problems = list(connection.exec_driver_sql(f"PRAGMA integrity_check({SHOWN})").scalars())
    size = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return _health([] if problems == ["ok"] else problems, f"{size} pages, with their indexes and constraints")


def _check_schema(connection: Connection) -> Health:
    """Look for every table, column, and index that the revision promises."""
    inspector, missing = inspect(connection), list[str]()
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in there:
            missing.append(f"the table {table.name} is missing")
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        indexes = {index["name"] for index in inspector.get_indexes(table.name)}
        missing += [f"the column {column} is missing" for column in table.columns if column.name not in columns]
        missing += [f"the index {index.name} is missing" for index in table.indexes if index.name not in indexes]
    return _health(missing, REVISION)


def _check_references(connection: Connection) -> Health:
    """Count rows that refer to a row that does not exist."""
    problems, checked = list[str](), 0
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            there = select(1).where(key.column == key.parent).correlate(table).exists()
            lost = _count(connection, select(func.count()).select_from(table).where(key.parent.is_not(None), ~there))
            checked += 1
            if lost:
                problems.append(
                    f"{lost} rows of {table.name} refer to a row of {key.column.table.name} that is missing"
                )
    return _health(problems, f"{checked} foreign keys")


def _check_runs(connection: Connection) -> Health:
    """Decode every run, one at a time, because each may be large."""
    problems, count = list[str](), 0
    for rows in connection.execute(select(runs), execution_options={"yield_per": 1}).partitions():
        _, undecodable = decode_rows(rows, run_from_row, "run_id")
        problems += [f"the run {row.id} cannot be read" for row in undecodable]
        count += len(rows)
    return _health(problems, f"{count} runs can be read")


def _check_final_events(connection: Connection) -> Health:
    """Check that a run has the one final event of its state if that is final, and otherwise none."""
    of_run = select(1).select_from(events).where(events.c.run_id == runs.c.run_id).correlate(runs)
    of_state = literal("run.").concat(runs.c.state)
    has_own = of_run.where(events.c.type == of_state).exists()
    has_other = of_run.where(events.c.type.in_(_FINAL_EVENTS), events.c.type != of_state).exists()
    ended = runs.c.state.in_(_FINAL_STATES)
    wrong = select(runs.c.run_id, runs.c.state).where(or_(and_(ended, ~has_own), has_other)).order_by(runs.c.run_id)
    rows = connection.execute(wrong)
    problems = [f"the run {row.run_id} is {row.state}, but its final events do not match that state" for row in rows]
    count = _count(connection, select(func.count()).where(ended))
    return _health(problems, f"{count} ended runs, each with one final event")


def _check_owners(connection: Connection) -> Health:
    """Count rows that a process owns that does not exist: no process would release them."""
    problems = list[str]()
    for table in (runs, deliveries):
        owner = table.c.owner
        unknown = owner.is_not(None) & owner.not_in(select(processes.c.name))
        if lost := _count(connection, select(func.count()).select_from(table).where(unknown)):
            problems.append(f"{lost} rows of {table.name} are owned by a process that does not exist")
    return _health(problems, f"{_count(connection, select(func.count()).select_from(processes))} processes")


def _made_at(connection: Connection) -> str | None:
    found: bytes | None = connection.execute(
        select(store_metadata.c.value).where(store_metadata.c.name == BACKUP)
    ).scalar()
    return None if found is None else found.decode()


def _count(connection: Connection, query: Select[Any]) -> int:
    counted: int = connection.execute(query).scalar_one()
    return counted


def _health(problems: list[str], intact: str) -> Health:
    """Return a result that names the first problems, and says how many more there are."""
    if not problems:
        return Health(ok=True, detail=intact)
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return Health(ok=False, detail="; ".join([*problems[:SHOWN], *more]))
