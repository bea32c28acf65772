"""Lists of runs and deliveries: a page ends after so many rows or bytes, and each query walks one index.

A condition on several crews or states becomes a union of queries, each of which reads no more than a page from the end
of one range of an index. One query with IN would sort all rows that match, or pass over all that do not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, exists, func, literal, null, select, text, union_all

from bridge.adapters.store.decoding import ReportUndecodable, readable_deliveries, readable_runs, runs_by_id
from bridge.adapters.store.rows import attempt_from_row, run_from_row
from bridge.adapters.store.schema import OF_CLIENT, deliveries, delivery_attempts, events, receivers, runs
from bridge.core.delivery.model import Attempt, Delivery, DeliveryState
from bridge.core.runs.model import Run, State
from bridge.ports.queries import DeliveryFilter, Page, RunFilter

LARGEST = 256 * 1024  # bytes of a result that is listed; what an event carries unless told otherwise
PAGE_BYTES = 2 * 1024 * 1024  # of the rows of one page; it holds one row at least
_BRANCHES = 100  # queries in one union; SQLite permits 500


def _bytes_of(*columns: ColumnElement[Any]) -> ColumnElement[int]:
    """Neither database reads a large value to find out how long it is."""
    total: ColumnElement[int] = literal(0)
    for column in columns:
        total = total + func.coalesce(func.length(column), 0)
    return total


_RESULT_BYTES = _bytes_of(runs.c.result, runs.c.result_json)
_SHORTENED = {name: case((_RESULT_BYTES <= LARGEST, runs.c[name])).label(name) for name in ("result", "result_json")}
_WITHOUT_INPUTS = {"inputs": literal(b"{}").label("inputs")}
_LISTED = [(_SHORTENED | _WITHOUT_INPUTS).get(column.name, column) for column in runs.c]
_LISTED_BYTES = case((_RESULT_BYTES <= LARGEST, _RESULT_BYTES), else_=0) + _bytes_of(
    *(runs.c[name] for name in ("meta", "progress", "human_input", "deferral", "usage", "error_message"))
)
_NOTHING = null()
WITHOUT_RESULT = [
    _NOTHING.label(column.name) if column.name in {"progress", "usage", "result", "result_json"} else column
    for column in runs.c
]
"""What tells how a run stands; what it came to may be large."""
_PEEKED = [
    literal(b"{}").label(column.name) if column.name in {"inputs", "meta"} else column for column in WITHOUT_RESULT
]
_WITHOUT_BODY = {"body": literal(b"").label("body"), "headers": literal(b"{}").label("headers")}
_DELIVERY_COLUMNS = [column for column in deliveries.c if column.name not in {"event_id", "crew"}]
_EVENT_COLUMNS = [_WITHOUT_BODY.get(column.name, column) for column in events.c]
_KNOWN = (receivers.c.receiver.label("known"), receivers.c.failing_since, receivers.c.paused_at)
_BODILESS: Select[Any] = (
    select(*_DELIVERY_COLUMNS, *_EVENT_COLUMNS, *_KNOWN)
    .join(events, events.c.event_id == deliveries.c.event_id)
    .outerjoin(receivers, deliveries.c.receiver == receivers.c.receiver)
)


@dataclass(frozen=True, slots=True)
class _Ranges:
    """The ranges of an index of which a list consists; `rest` holds for each of them."""

    id_: ColumnElement[str]
    ranges: Sequence[Sequence[ColumnElement[bool]]]
    rest: Sequence[ColumnElement[bool]] = field(default=())

    def newest(self, limit: int) -> Iterator[Select[Any]]:
        """Queries that together find the ids of the newest rows."""
        for first in range(0, len(self.ranges), _BRANCHES):
            some = self.ranges[first : first + _BRANCHES]
            ends = [
                select(self.id_.label("id")).where(*one, *self.rest).order_by(self.id_.desc()).limit(limit)
                for one in some
            ]
            if len(ends) == 1:
                yield ends[0]
            else:
                together = union_all(*(select(end.subquery().c.id) for end in ends)).subquery()
                yield select(together.c.id).order_by(together.c.id.desc()).limit(limit)


def runs_page(connection: Connection, which: RunFilter, report: ReportUndecodable) -> Page[Run]:
    """The newest runs that match, without their inputs and large results; at least one if others follow."""
    while True:
        page, next_before = _runs_page(connection, which, report)
        if page.items or next_before is None:
            return page
        which = replace(which, before=next_before)


def _runs_page(connection: Connection, which: RunFilter, report: ReportUndecodable) -> tuple[Page[Run], str | None]:
    """Also return the id after which others follow, as none of the page's runs may be readable."""
    ids = _newest(connection, run_ranges(which), which.limit + 1)
    sizes = dict(connection.execute(select(runs.c.run_id, _LISTED_BYTES).where(runs.c.run_id.in_(ids))).all())
    shown = list(within([(run_id, sizes[run_id]) for run_id in ids[: which.limit]], PAGE_BYTES))
    rows = connection.execute(select(*_LISTED).where(runs.c.run_id.in_(shown)).order_by(runs.c.run_id.desc()))
    more = len(ids) > len(shown)
    return Page(readable_runs(rows, report), more=more), shown[-1] if more else None


def run_ranges(which: RunFilter) -> _Ranges:
    """Of the index by sender, by crew or by state, whichever serves; without any condition, of the ids themselves."""
    rest = [] if which.before is None else [runs.c.run_id < which.before]
    crews = _crews(which.crew, which.crews)
    states = list(State) if which.state is None else [which.state]
    of_states = [runs.c.state == state.value for state in states]
    if which.source is not None:
        of_source = [runs.c.source == which.source]
        if which.source.startswith("client/"):
            of_source.append(text(OF_CLIENT))  # type: ignore[arg-type]  # the index's own condition
        if crews is not None:
            rest.append(runs.c.crew.in_(crews))
        return _Ranges(runs.c.run_id, [[*of_source, of_state] for of_state in of_states], rest)
    if crews is not None:
        pairs = product([runs.c.crew == crew for crew in crews], of_states)
        return _Ranges(runs.c.run_id, [list(pair) for pair in pairs], rest)
    return _Ranges(runs.c.run_id, [[]] if which.state is None else [of_states], rest)


def whole_run(connection: Connection, run_id: str) -> Run | None:
    """One run with all that it holds."""
    row = connection.execute(select(runs).where(runs.c.run_id == run_id)).first()
    return None if row is None else run_from_row(row)


def whole_runs(connection: Connection, run_ids: Sequence[str]) -> dict[str, Run | Exception]:
    """These runs with all that they hold."""
    return runs_by_id(connection.execute(select(runs).where(runs.c.run_id.in_(run_ids))))


def peeked(connection: Connection, run_ids: Sequence[str]) -> dict[str, Run | Exception]:
    """How these runs stand, without their contents."""
    return runs_by_id(connection.execute(select(*_PEEKED).where(runs.c.run_id.in_(run_ids))))


def deliveries_page(connection: Connection, which: DeliveryFilter, report: ReportUndecodable) -> list[Delivery]:
    """The newest deliveries that match, without the events' bodies, which may be large and are not shown.

    Fewer than `limit` only if no others follow, however many cannot be decoded.
    """
    found: list[Delivery] = []
    while wanted := which.limit - len(found):
        ids = _newest(connection, delivery_ranges(which), wanted)
        query = _BODILESS.where(deliveries.c.delivery_id.in_(ids)).order_by(deliveries.c.delivery_id.desc())
        found += readable_deliveries(connection.execute(query), report)
        if len(ids) < wanted:
            break
        which = replace(which, before=ids[-1])
    return found


def delivery_ranges(which: DeliveryFilter) -> _Ranges:
    """Of one delivery or one run, else of the index by crew or by state."""
    ids = deliveries.c.delivery_id
    rest = [] if which.before is None else [ids < which.before]
    rest += (made := _created_within(which))
    crews = _crews(which.crew, which.crews)
    of_crews = [] if crews is None else [deliveries.c.crew.in_(crews)]
    of_states = [
        deliveries.c.state == state.value for state in (DeliveryState if which.state is None else [which.state])
    ]
    of_state = of_states if which.state is not None else []
    if which.delivery_id is not None:
        return _Ranges(ids, [[ids == which.delivery_id, *of_crews, *of_state]], rest)
    if which.run_id is not None:
        of_run = deliveries.c.event_id.in_(select(events.c.event_id).where(events.c.run_id == which.run_id))
        return _Ranges(ids, [[of_run, *of_crews, *of_state]], rest)
    if crews is not None:
        pairs = product([deliveries.c.crew == crew for crew in crews], of_states)
        return _Ranges(ids, [list(pair) for pair in pairs], rest)
    return _Ranges(ids, [[one] for one in of_states] if made or of_state else [[]], rest)


def _created_within(which: DeliveryFilter) -> list[ColumnElement[bool]]:
    """Asked of one event after the other, as ids are in the order of time, and the page is soon full."""
    times = []
    if which.since is not None:
        times.append(events.c.created_at >= which.since)
    if which.until is not None:
        times.append(events.c.created_at < which.until)
    return [exists().where(events.c.event_id == deliveries.c.event_id, *times)] if times else []


def deliveries_of_run(connection: Connection, run_id: str, report: ReportUndecodable) -> list[Delivery]:
    """The deliveries of one run, the oldest first, without the events' bodies."""
    query = _BODILESS.where(events.c.run_id == run_id).order_by(events.c.created_at, deliveries.c.delivery_id)
    return readable_deliveries(connection.execute(query), report)


def attempts_for_delivery(connection: Connection, delivery_id: str) -> list[Attempt]:
    """The attempts of one delivery, the first one first."""
    query = (
        select(delivery_attempts)
        .where(delivery_attempts.c.delivery_id == delivery_id)
        .order_by(delivery_attempts.c.number)
    )
    return [attempt_from_row(row) for row in connection.execute(query)]


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """How many runs and deliveries there are by state."""
    found = {}
    for name, table in (("runs", runs), ("deliveries", deliveries)):
        rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
        found[name] = {row[0]: row[1] for row in rows}
    return found


def _newest(connection: Connection, ranges: _Ranges, limit: int) -> list[str]:
    queries = list(ranges.newest(limit))
    found = [id_ for query in queries for id_ in connection.execute(query).scalars()]
    if len(queries) <= 1:
        return found
    newest = select(ranges.id_).where(ranges.id_.in_(found)).order_by(ranges.id_.desc()).limit(limit)
    return list(connection.execute(newest).scalars())  # sorted there: a database has its own order of texts


def _crews(one: str | None, permitted: Iterable[str] | None) -> list[str] | None:
    """The crews whose rows may be shown; None: all."""
    if permitted is None:
        return None if one is None else [one]
    return sorted(crew for crew in permitted if one in (None, crew))


def within(sized: Iterable[tuple[str, int]], most: int) -> Iterator[str]:
    """The first ids whose rows have at most so many bytes together; one at least."""
    total = 0
    for number, (id_, size) in enumerate(sized):
        total += size
        if number and total > most:
            return
        yield id_
