"""Inserts runs, each request exactly once, and deliveries with their events."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import Connection, Float, Insert, bindparam, func, select, tuple_

from bridge.adapters.store import dialect
from bridge.adapters.store.bulk_statement import BulkStatement
from bridge.adapters.store.queries import run_lists
from bridge.adapters.store.rows import new_delivery, new_event, new_run, run_from_row, searchable_meta
from bridge.adapters.store.schema import deliveries, events, run_meta, runs
from bridge.core.delivery.model import Delivery, Event
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import Run
from bridge.ports.inbound import Accepted

REMEMBER_UNKEYED = 3600.0  # seconds in which a redelivered message without a key is recognized by its content
STEP = 1e-6  # minimum seconds between the `stored_at` of two events


def _insert_event(connection: Connection) -> Insert:
    """Give an event a later `stored_at` than all others, because streams read in this order and never go back."""
    newest = select(func.coalesce(func.max(events.c.stored_at), 0.0)).scalar_subquery()
    created_at = bindparam("stored_at", type_=Float)
    return events.insert().values(stored_at=dialect.storage_time(connection, created_at, newest + STEP))


_INSERT_RUN = BulkStatement(lambda connection: dialect.insert_or_ignore(connection, runs))
_INSERT_META = BulkStatement(lambda connection: dialect.insert_or_ignore(connection, run_meta))
_INSERT_EVENT = BulkStatement(_insert_event)
_INSERT_DELIVERY = BulkStatement(lambda _: deliveries.insert())


def accept_all(connection: Connection, new: Sequence[Run]) -> list[Accepted | RequestRefused]:
    """Insert runs; for a key or signature digest that is taken, return the run that has it.

    Messages that may be copies of one another are inserted last and one at a time, so that each finds the previous one.
    """
    earlier_copies: dict[str, Run] = {}
    identified = [run for run in new if not _may_be_a_copy(run)]
    all_new = _insert(connection, identified) == len(identified)
    for run in filter(_may_be_a_copy, new):
        if (found := _earlier_copy(connection, run)) is None:
            _insert(connection, [run])
        else:
            earlier_copies[run.run_id] = found
    to_find = [] if all_new else identified
    by_key, by_signature_digest = _runs_by_key(connection, to_find), _runs_by_digest(connection, to_find)
    results = [
        _result(
            run,
            earlier_copies.get(run.run_id) or by_key.get(_key(run)) or by_signature_digest.get(_signature_digest(run)),
        )
        for run in new
    ]
    stored = [result.run for result in results if isinstance(result, Accepted) and not result.replayed]
    _INSERT_META.execute(connection, [row for run in stored for row in searchable_meta(run)])
    return results


def add_deliveries(connection: Connection, groups: Sequence[Sequence[Delivery]]) -> list[None]:
    """Insert deliveries with their events."""
    insert_deliveries(connection, [delivery for group in groups for delivery in group])
    return [None] * len(groups)


def insert_deliveries(
    connection: Connection,
    new: Iterable[Delivery],
    unaddressed: Iterable[Event] = (),
    owners: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Insert deliveries, and in the order of their creation their events and the unaddressed ones, each once.

    `owners`: the processes that own some of the deliveries, by delivery id; the others are unowned.
    """
    new = list(new)
    by_id = {event.event_id: event for event in (*(delivery.event for delivery in new), *unaddressed)}
    if by_id:
        in_order = sorted(by_id.values(), key=lambda event: event.created_at)
        _INSERT_EVENT.execute(connection, [new_event(event) for event in in_order])
    if new:
        _INSERT_DELIVERY.execute(connection, [new_delivery(one, owners.get(one.delivery_id)) for one in new])


def _result(run: Run, holder: Run | None) -> Accepted | RequestRefused:
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
    """Return whether the request may be a copy that only its content identifies."""
    return run.envelope.redelivered and run.request.idempotency_key is None and run.envelope.signature_digest is None


def _earlier_copy(connection: Connection, run: Run) -> Run | None:
    """Return the run of an earlier delivery of the same message without a key."""
    query = select(runs).where(
        runs.c.idempotency_key.is_(None),
        runs.c.fingerprint == run.fingerprint,
        runs.c.source == run.envelope.source,
        runs.c.accepted_at >= run.accepted_at - REMEMBER_UNKEYED,
    )
    row = connection.execute(query.order_by(runs.c.run_id.desc()).limit(1)).first()
    return None if row is None else run_from_row(row)


def _runs_by_key(connection: Connection, new_runs: Sequence[Run]) -> dict[tuple[str | None, ...], Run]:
    """Return the run that has each idempotency key: the new run, or an earlier one."""
    keys = [_key(run) for run in new_runs if run.request.idempotency_key is not None]
    taken = tuple_(runs.c.source, runs.c.crew, runs.c.idempotency_key).in_(keys)
    listed = runs.c.idempotency_key.in_([key for _, _, key in keys])  # SQLite uses no index for tuples
    found = connection.execute(select(*run_lists.WITHOUT_RESULT).where(listed, taken)) if keys else ()
    return {_key(run): run for run in map(run_from_row, found)}


def _runs_by_digest(connection: Connection, new_runs: Sequence[Run]) -> dict[tuple[str | None, ...], Run]:
    """Return the run that has each signature digest: the new run, or an earlier one."""
    signature_digests = [_signature_digest(run) for run in new_runs if run.envelope.signature_digest is not None]
    taken = tuple_(runs.c.source, runs.c.signature_digest).in_(signature_digests)
    listed = runs.c.signature_digest.in_([digest for _, digest in signature_digests])
    found = connection.execute(select(*run_lists.WITHOUT_RESULT).where(listed, taken)) if signature_digests else ()
    return {_signature_digest(run): run for run in map(run_from_row, found)}


def _key(run: Run) -> tuple[str | None, ...]:
    return (run.envelope.source, run.crew, run.request.idempotency_key)


def _signature_digest(run: Run) -> tuple[str | None, ...]:
    return (run.envelope.source, run.envelope.signature_digest)


def _insert(connection: Connection, new_runs: Sequence[Run]) -> int:
    """Insert the runs; return how many were new."""
    return _INSERT_RUN.execute(connection, [new_run(run) for run in new_runs])
