"""Lists of runs and deliveries: pages are limited in rows and bytes, and each query scans one index.

A condition on several crews or states becomes a union of queries, each of which reads at most a page from the end of
one range of an index. One query with IN would sort all rows that match, or skip all that do not.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    ColumnElement,
    Connection,
    Select,
    case,
    exists,
    func,
    literal,
    select,
    text,
    tuple_,
    union_all,
)

from bridge.adapters.store.decoding import ReportUndecodable, decode_and_report, deliveries_from_rows, runs_by_id
from bridge.adapters.store.dialect import is_postgresql
from bridge.adapters.store.rows import attempt_from_row, run_columns, run_from_row, select_deliveries
from bridge.adapters.store.schema import OF_CLIENT, deliveries, delivery_attempts, events, run_meta, runs
from bridge.core.delivery.model import Attempt, Delivery, DeliveryState
from bridge.core.runs.model import Run, State
from bridge.ports.queries import DeliveryFilter, Page, RunFilter

MAX_LISTED_RESULT = 256 * 1024  # bytes; the default of `callbacks.max_event_bytes`
PAGE_BYTES = 2 * 1024 * 1024  # of the rows of one page, which has at least one
_LOWEST_ID = "00000000-0000-0000-0000-000000000000"
_HIGHEST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_COUNTED = 1000  # runs, to compare how frequent members of `meta` are
_BRANCHES = 100  # queries in one union; SQLite permits 500


def _size_of(*columns: ColumnElement[Any]) -> ColumnElement[int]:
    """Return the bytes of some columns; neither database reads a large value to determine its length."""
    total: ColumnElement[int] = literal(0)
    for column in columns:
        total = total + func.coalesce(func.length(column), 0)
    return total


_RESULT_BYTES = _size_of(runs.c.result, runs.c.result_json)
_SHORTENED = {
    name: case((_RESULT_BYTES <= MAX_LISTED_RESULT, runs.c[name])).label(name) for name in ("result", "result_json")
}
_LISTED = [_SHORTENED.get(column.name, column) for column in run_columns("inputs", "tasks", "history")]
_LISTED_BYTES = case((_RESULT_BYTES <= MAX_LISTED_RESULT, _RESULT_BYTES), else_=0) + _size_of(
    *(runs.c[name] for name in ("meta", "progress", "human_input", "deferral", "usage", "error_message"))
)
_REPORTED = ("progress", "tasks", "history", "usage", "result", "result_json")
WITHOUT_RESULT, _SUMMARY = run_columns(*_REPORTED), run_columns("inputs", "meta", *_REPORTED)
_WITHOUT_BODY = {"body": literal(b"").label("body"), "headers": literal(b"{}").label("headers")}
_WITHOUT_BODIES = select_deliveries(*(_WITHOUT_BODY.get(column.name, column) for column in events.c))


@dataclass(frozen=True, slots=True)
class _Ranges:
    """The ranges of an index that a list consists of; `rest` are further conditions on all of them.

    `between`: ids that bound all ranges, if the index consists of the compared columns, in this order, and the id.
    """

    id_: ColumnElement[str]
    ranges: Sequence[Sequence[ColumnElement[bool]]]
    rest: Sequence[ColumnElement[bool]] = field(default=())
    between: tuple[str, str] | None = None

    def newest(self, connection: Connection, limit: int) -> Iterator[Select[Any]]:
        """Yield queries that together find the ids of the newest rows."""
        find = self._in_order_of_index if self.between and is_postgresql(connection) else self._in_order_of_ids
        for first in range(0, len(self.ranges), _BRANCHES):
            ranges = self.ranges[first : first + _BRANCHES]
            ends = [find(conditions).limit(limit) for conditions in ranges]
            if len(ends) == 1:
                yield ends[0]
            else:
                together = union_all(*(select(end.subquery().c.id) for end in ends)).subquery()
                yield select(together.c.id).order_by(together.c.id.desc()).limit(limit)

    def _in_order_of_ids(self, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
        return select(self.id_.label("id")).where(*conditions, *self.rest).order_by(self.id_.desc())

    def _in_order_of_index(self, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
        """Compare and sort by all columns of the index, so that PostgreSQL has no other to choose.

        Sorted by the id alone, it would read the primary key, because it expects a frequent crew and a frequent state
        to meet soon, and read all of it for a crew that has no such run.
        """
        equal = [condition for condition in conditions if isinstance(condition, BinaryExpression)]
        others = [condition for condition in conditions if not isinstance(condition, BinaryExpression)]
        columns, values = [*(each.left for each in equal), self.id_], [each.right for each in equal]
        lowest, highest = (tuple_(*values, literal(id_)) for id_ in self.between or ())
        in_range = tuple_(*columns).between(lowest, highest)
        order = [column.desc() for column in columns]
        return select(self.id_.label("id")).where(in_range, *others, *self.rest).order_by(*order)


def runs_page(connection: Connection, report: ReportUndecodable, filter_: RunFilter) -> Page[Run]:
    """Return the newest matching runs, without inputs and large results; at least one if others follow."""
    filter_ = replace(filter_, meta=_rarest_first(connection, filter_.meta))
    while True:
        page, next_before = _runs_page(connection, filter_, report)
        if page.items or next_before is None:
            return page
        filter_ = replace(filter_, before=next_before)


def _runs_page(connection: Connection, filter_: RunFilter, report: ReportUndecodable) -> tuple[Page[Run], str | None]:
    """Return a page, and the id after which others follow, because none of its runs may be decodable."""
    ids = _newest(connection, run_ranges(filter_), filter_.limit + 1)
    sizes = dict(connection.execute(select(runs.c.run_id, _LISTED_BYTES).where(runs.c.run_id.in_(ids))).all())
    shown = list(ids_within([(run_id, sizes[run_id]) for run_id in ids[: filter_.limit]], PAGE_BYTES))
    rows = connection.execute(select(*_LISTED).where(runs.c.run_id.in_(shown)).order_by(runs.c.run_id.desc()))
    more = len(ids) > len(shown)
    return Page(decode_and_report(rows, run_from_row, "run_id", report), more=more), shown[-1] if more else None


def run_ranges(filter_: RunFilter) -> _Ranges:
    """Return ranges of the first index of a search, or of the index by source, crew, or state, or of the ids."""
    if searches := list(_searches(filter_)):
        first, *others = searches
        conditions = [condition for search in others for condition in search.unindexed]
        return _Ranges(first.id_, first.ranges, [*_id_bounds(first.id_, filter_), *conditions, *_scope(filter_)])
    rest, between = _id_bounds(runs.c.run_id, filter_), _bounding_ids(filter_)
    crews = _crews(filter_.crew, filter_.crews)
    states = list(State) if filter_.state is None else [filter_.state]
    state_conditions = [runs.c.state == state.value for state in states]
    if filter_.source is not None:
        source_conditions = [runs.c.source == filter_.source]
        if filter_.source.startswith("client/"):
            source_conditions.append(text(OF_CLIENT))  # type: ignore[arg-type]  # the index's own condition
        if crews is not None:
            rest.append(runs.c.crew.in_(crews))
        ranges = [[*source_conditions, state_condition] for state_condition in state_conditions]
        return _Ranges(runs.c.run_id, ranges, rest, between if len(source_conditions) > 1 else None)
    if crews is not None:
        pairs = product([runs.c.crew == crew for crew in crews], state_conditions)
        return _Ranges(runs.c.run_id, [list(pair) for pair in pairs], rest, between)
    if filter_.state is not None:
        return _Ranges(runs.c.run_id, [state_conditions], rest, between)
    return _Ranges(runs.c.run_id, [[]], rest)


@dataclass(frozen=True, slots=True)
class _Search:
    """A condition that few runs meet: as ranges of an index, and as conditions on runs found by another index."""

    ranges: list[list[ColumnElement[bool]]]
    unindexed: list[ColumnElement[bool]]
    id_: ColumnElement[str] = runs.c.run_id


def _searches(filter_: RunFilter) -> Iterator[_Search]:
    """Yield the searches of the filter, the one that matches the fewest runs first."""
    if filter_.idempotency_key is not None:
        yield _equality(runs.c.idempotency_key, filter_.idempotency_key)
    if filter_.kickoff_id is not None:
        yield _equality(runs.c.kickoff_id, filter_.kickoff_id)
    if (correlation_id := filter_.correlation_id) is not None:
        by_key = [runs.c.idempotency_key == correlation_id, runs.c.correlation_id.is_(None)]
        either = func.coalesce(runs.c.correlation_id, runs.c.idempotency_key)
        yield _Search([[runs.c.correlation_id == correlation_id], by_key], [either == correlation_id])
    for name, value in filter_.meta.items():
        member = run_meta.alias()
        has_member = exists().where(
            member.c.run_id == runs.c.run_id, member.c.name == name, _unindexed(member.c.value) == value
        )
        in_index = [run_meta.c.name == name, run_meta.c.value == value, run_meta.c.run_id == runs.c.run_id]
        yield _Search([in_index], [has_member], run_meta.c.run_id)
    if filter_.error is not None:
        yield _equality(runs.c.error_code, filter_.error)


def _rarest_first(connection: Connection, meta: Mapping[str, str]) -> Mapping[str, str]:
    """Return the members of `meta`, the one with the fewest runs first, as far as the first of its runs tell."""

    def count(member: tuple[str, str]) -> int:
        of_member = (run_meta.c.name == member[0], run_meta.c.value == member[1])
        some = select(run_meta.c.run_id).where(*of_member).limit(_COUNTED).subquery()
        return int(connection.execute(select(func.count()).select_from(some)).scalar_one())

    return dict(sorted(meta.items(), key=count)) if len(meta) > 1 else meta


def _equality(column: ColumnElement[Any], value: str) -> _Search:
    return _Search([[column == value]], [_unindexed(column) == value])


def _unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the column as an expression. Without statistics, SQLite would prefer an index with more columns."""
    return column.concat("")


def _scope(filter_: RunFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on state, crew, and source, without their indexes."""
    crews = _crews(filter_.crew, filter_.crews)
    conditions: list[ColumnElement[bool]] = [] if crews is None else [_unindexed(runs.c.crew).in_(crews)]
    if filter_.state is not None:
        conditions.append(_unindexed(runs.c.state) == filter_.state.value)
    if filter_.source is not None:
        conditions.append(_unindexed(runs.c.source) == filter_.source)
    return conditions


def _id_bounds(id_: ColumnElement[str], filter_: RunFilter) -> list[ColumnElement[bool]]:
    """Return ranges of ids. Bounds are complete UUIDs, which every collation sorts alike."""
    bounds = [] if filter_.before is None else [id_ < filter_.before]
    if filter_.since is not None:
        bounds.append(id_ >= _first_id_at(filter_.since))
    if filter_.until is not None:
        bounds.append(id_ < _first_id_at(filter_.until))
    if (prefix := filter_.prefix) is not None:
        bounds.append(id_.between(prefix + _LOWEST_ID[len(prefix) :], prefix + _HIGHEST_ID[len(prefix) :]))
    return bounds


def _bounding_ids(filter_: RunFilter) -> tuple[str, str]:
    """Return ids between which all ids within the bounds are."""
    prefix = filter_.prefix or ""
    lowest = [prefix + _LOWEST_ID[len(prefix) :], *([] if filter_.since is None else [_first_id_at(filter_.since)])]
    highest = [prefix + _HIGHEST_ID[len(prefix) :], *([] if filter_.until is None else [_first_id_at(filter_.until)])]
    return max(lowest), min([*highest, *([] if filter_.before is None else [filter_.before])])


def _first_id_at(at: float) -> str:
    """Return the lowest UUIDv7 of a millisecond."""
    digits = f"{max(0, round(at * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}{_LOWEST_ID[13:]}"


def load_run(connection: Connection, run_id: str) -> Run | None:
    """Return a run with all columns."""
    return _first(connection, select(runs).where(runs.c.run_id == run_id))


def find_execution(connection: Connection, crew: str, kickoff_id: str) -> Run | None:
    """Return the newest run of a crew whose execution has this id."""
    same = select(runs).where(runs.c.crew == crew, runs.c.kickoff_id == kickoff_id)
    return _first(connection, same.order_by(runs.c.run_id.desc()).limit(1))


def find_key(connection: Connection, source: str, crew: str, key: str) -> Run | None:
    """Return the run that has a sender's idempotency key."""
    same = select(runs).where(runs.c.source == source, runs.c.crew == crew, runs.c.idempotency_key == key)
    return _first(connection, same)


def load_runs(connection: Connection, run_ids: Sequence[str]) -> dict[str, Run | Exception]:
    """Return runs by id, with all columns."""
    return runs_by_id(connection.execute(select(runs).where(runs.c.run_id.in_(run_ids))))


def load_summaries(connection: Connection, run_ids: Sequence[str]) -> dict[str, Run | Exception]:
    """Return runs by id, without inputs, meta, progress, and result."""
    return runs_by_id(connection.execute(select(*_SUMMARY).where(runs.c.run_id.in_(run_ids))))


def deliveries_page(connection: Connection, report: ReportUndecodable, filter_: DeliveryFilter) -> list[Delivery]:
    """Return the newest matching deliveries, without the bodies of their events.

    There are fewer than `limit` only if no others follow, even if some cannot be decoded.
    """
    found: list[Delivery] = []
    while missing := filter_.limit - len(found):
        ids = _newest(connection, delivery_ranges(filter_), missing)
        query = _WITHOUT_BODIES.where(deliveries.c.delivery_id.in_(ids)).order_by(deliveries.c.delivery_id.desc())
        found += deliveries_from_rows(connection.execute(query), report)
        if len(ids) < missing:
            break
        filter_ = replace(filter_, before=ids[-1])
    return found


def delivery_ranges(filter_: DeliveryFilter) -> _Ranges:
    """Return the range of one delivery or run, otherwise ranges of the index by crew or state."""
    ids = deliveries.c.delivery_id
    rest = [] if filter_.before is None else [ids < filter_.before]
    rest += (in_period := _created_in_period(filter_))
    crews = _crews(filter_.crew, filter_.crews)
    crew_conditions = [] if crews is None else [deliveries.c.crew.in_(crews)]
    state_conditions = [
        deliveries.c.state == state.value for state in (DeliveryState if filter_.state is None else [filter_.state])
    ]
    state_condition = state_conditions if filter_.state is not None else []
    if filter_.delivery_id is not None:
        return _Ranges(ids, [[ids == filter_.delivery_id, *crew_conditions, *state_condition]], rest)
    if filter_.run_id is not None:
        run_condition = deliveries.c.event_id.in_(select(events.c.event_id).where(events.c.run_id == filter_.run_id))
        return _Ranges(ids, [[run_condition, *crew_conditions, *state_condition]], rest)
    if crews is not None:
        pairs = product([deliveries.c.crew == crew for crew in crews], state_conditions)
        return _Ranges(ids, [list(pair) for pair in pairs], rest)
    return _Ranges(ids, [[state] for state in state_conditions] if in_period or state_condition else [[]], rest)


def _created_in_period(filter_: DeliveryFilter) -> list[ColumnElement[bool]]:
    """Return a condition checked row by row: ids are in the order of time, so a page is soon complete."""
    times = []
    if filter_.since is not None:
        times.append(events.c.created_at >= filter_.since)
    if filter_.until is not None:
        times.append(events.c.created_at < filter_.until)
    return [exists().where(events.c.event_id == deliveries.c.event_id, *times)] if times else []


def deliveries_of_run(connection: Connection, report: ReportUndecodable, run_id: str) -> list[Delivery]:
    """Return the deliveries of a run, oldest first, without the bodies of their events."""
    query = _WITHOUT_BODIES.where(events.c.run_id == run_id).order_by(events.c.created_at, deliveries.c.delivery_id)
    return deliveries_from_rows(connection.execute(query), report)


def attempts_for_delivery(connection: Connection, delivery_id: str) -> list[Attempt]:
    """Return the stored attempts of a delivery, oldest first."""
    query = (
        select(delivery_attempts)
        .where(delivery_attempts.c.delivery_id == delivery_id)
        .order_by(delivery_attempts.c.number)
    )
    return [attempt_from_row(row) for row in connection.execute(query)]


def _first(connection: Connection, query: Select[Any]) -> Run | None:
    row = connection.execute(query).first()
    return None if row is None else run_from_row(row)


def _newest(connection: Connection, ranges: _Ranges, limit: int) -> list[str]:
    queries = list(ranges.newest(connection, limit))
    found = [id_ for query in queries for id_ in connection.execute(query).scalars()]
    if len(queries) <= 1:
        return found
    # Sorted by the database, whose collation may differ from Python's order.
    newest = select(ranges.id_).where(ranges.id_.in_(found)).order_by(ranges.id_.desc()).limit(limit)
    return list(connection.execute(newest).scalars())


def _crews(one: str | None, permitted: Iterable[str] | None) -> list[str] | None:
    """Return the crews to list; None: all."""
    if permitted is None:
        return None if one is None else [one]
    return sorted(crew for crew in permitted if one in (None, crew))


def ids_within(sized: Iterable[tuple[str, int]], max_bytes: float) -> Iterator[str]:
    """Yield the first ids whose rows have at most `max_bytes` together; at least one."""
    total = 0
    for number, (id_, size) in enumerate(sized):
        total += size
        if number and total > max_bytes:
            return
        yield id_
