"""Stores requests, each exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import Connection, Float, Insert, bindparam, func, select, tuple_

from bridge.adapters.store import dialect
from bridge.adapters.store.bulk_statement import BulkStatement
from bridge.adapters.store.queries import run_lists
from bridge.adapters.store.rows import new_delivery, new_event, new_run, run_from_row
from bridge.adapters.store.schema import deliveries, events, runs
from bridge.core.delivery.model import Delivery, Event
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import Run
from bridge.ports.inbound import Accepted

REMEMBER_UNKEYED = 3600.0  # seconds for which a redelivered message without a key is recognised by its content
STEP = 1e-6  # seconds between events that are stored one after the other, at least


def _insert_event(connection: Connection) -> Insert:
    """Each is stored later than all that are there: a stream would miss one that came before what it has told."""
    newest = select(func.coalesce(func.max(events.c.stored_at), 0.0)).scalar_subquery()
    made_at = bindparam("stored_at", type_=Float)
    return events.insert().values(stored_at=dialect.moment_of_storing(connection, made_at, newest + STEP))


_INSERT_RUN = BulkStatement(lambda connection: dialect.insert_new(connection, runs))
_INSERT_EVENT = BulkStatement(_insert_event)
_INSERT_DELIVERY = BulkStatement(lambda _: deliveries.insert())


def accept_all(connection: Connection, new: Sequence[Run]) -> list[Accepted | RequestRefused]:
    """Insert runs; a key or signature digest that is taken leads to the run that holds it.

    Messages that may be copies of one another come after the others and one at a time, so that each sees the last.
    """
    seen_before: dict[str, Run] = {}
    certain = [run for run in new if not _may_be_a_copy(run)]
    all_new = _insert(connection, certain) == len(certain)
    for run in filter(_may_be_a_copy, new):
        if (found := _earlier_copy(connection, run)) is None:
            _insert(connection, [run])
        else:
            seen_before[run.run_id] = found
    unsure = [] if all_new else certain
    by_key, by_signature_digest = _holders_of_keys(connection, unsure), _holders_of_digests(connection, unsure)
    return [
        _answer(
            run, seen_before.get(run.run_id) or by_key.get(_key(run)) or by_signature_digest.get(_signature_digest(run))
        )
        for run in new
    ]


def file_all(connection: Connection, groups: Sequence[Sequence[Delivery]]) -> list[None]:
    """Insert deliveries with their events."""
    insert_deliveries(connection, [delivery for group in groups for delivery in group])
    return [None] * len(groups)


def insert_deliveries(
    connection: Connection,
    new: Iterable[Delivery],
    unaddressed: Iterable[Event] = (),
    owners: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Insert deliveries and, once each and in the order of their times, their events, and those that none carries.

    `owners`: the processes that own some of the deliveries, by their ids; the others wait to be claimed.
    """
    wanted = list(new)
    told = {event.event_id: event for event in (*(delivery.event for delivery in wanted), *unaddressed)}
    if told:
        in_order = sorted(told.values(), key=lambda event: event.created_at)
        _INSERT_EVENT.execute(connection, [new_event(event) for event in in_order])
    if wanted:
        _INSERT_DELIVERY.execute(connection, [new_delivery(one, owners.get(one.delivery_id)) for one in wanted])


def _answer(run: Run, holder: Run | None) -> Accepted | RequestRefused:
    if holder is None or holder.run_id == run.run_id:
        return Accepted(run, replayed=False)
    if holder.fingerprint == run.fingerprint:
        return Accepted(holder, replayed=True)
    return RequestRefused(
        "idempotency_conflict",
        "the same key, or the same signed request, was used before with other content",
        "idempotency_key",
    )


def _may_be_a_copy(run: Run) -> bool:
    """Whether it may have come before, with nothing but its content to tell by."""
    return run.envelope.redelivered and run.request.idempotency_key is None and run.envelope.signature_digest is None


def _earlier_copy(connection: Connection, run: Run) -> Run | None:
    """The run that an earlier delivery of the same keyless message made."""
    query = select(runs).where(
        runs.c.idempotency_key.is_(None),
        runs.c.fingerprint == run.fingerprint,
        runs.c.source == run.envelope.source,
        runs.c.accepted_at >= run.accepted_at - REMEMBER_UNKEYED,
    )
    row = connection.execute(query.order_by(runs.c.run_id.desc()).limit(1)).first()
    return None if row is None else run_from_row(row)


def _holders_of_keys(connection: Connection, new_runs: Sequence[Run]) -> dict[tuple[str | None, ...], Run]:
    """Who holds each idempotency key now: the new run itself, or the one that was there before."""
    keys = [_key(run) for run in new_runs if run.request.idempotency_key is not None]
    taken = tuple_(runs.c.source, runs.c.crew, runs.c.idempotency_key).in_(keys)
    found = connection.execute(select(*run_lists.WITHOUT_RESULT).where(taken)) if keys else ()
    return {_key(run): run for run in map(run_from_row, found)}


def _holders_of_digests(connection: Connection, new_runs: Sequence[Run]) -> dict[tuple[str | None, ...], Run]:
    """Return the run that holds each signature digest."""
    signature_digests = [_signature_digest(run) for run in new_runs if run.envelope.signature_digest is not None]
    taken = tuple_(runs.c.source, runs.c.signature_digest).in_(signature_digests)
    found = connection.execute(select(*run_lists.WITHOUT_RESULT).where(taken)) if signature_digests else ()
    return {_signature_digest(run): run for run in map(run_from_row, found)}


def _key(run: Run) -> tuple[str | None, ...]:
    return (run.envelope.source, run.crew, run.request.idempotency_key)


def _signature_digest(run: Run) -> tuple[str | None, ...]:
    return (run.envelope.source, run.envelope.signature_digest)


def _insert(connection: Connection, new_runs: Sequence[Run]) -> int:
    """Insert the runs and return how many were new."""
    return _INSERT_RUN.execute(connection, [new_run(run) for run in new_runs])
