"""Putting requests into the store, each once."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import Connection, or_, select, tuple_

from bridge.adapters.store import dialect
from bridge.adapters.store.bulk import Bulk
from bridge.adapters.store.rows import new_delivery, new_event, new_run, run_of
from bridge.adapters.store.tables import deliveries, events, runs
from bridge.core.errors import RequestRefused
from bridge.core.model import Delivery, Event, Run
from bridge.ports import Accepted

REMEMBER_UNKEYED = 3600.0  # seconds for which a redelivered message without a key is recognised by its content

_INSERT_RUN = Bulk(lambda connection: dialect.insert_new(connection, runs))
_INSERT_EVENT = Bulk(lambda _: events.insert())
_INSERT_DELIVERY = Bulk(lambda _: deliveries.insert())

_Name = tuple[str | None, ...]
"""What a request is known by: source, crew and idempotency key, or source and seal."""
KEY, SEAL = 3, 2  # members


def accept_all(connection: Connection, new: Sequence[Run]) -> list[Accepted | RequestRefused]:
    """Insert runs; a key or a seal that is taken leads to the run that took it.

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
    holders = {} if all_new else _holders(connection, certain)
    return [_answer(run, seen_before.get(run.run_id) or _holder(run, holders)) for run in new]


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
    """Insert deliveries and, once each, the events that they carry, and those that none carries.

    `owners`: the processes that own some of the deliveries, by their ids; the others wait to be claimed.
    """
    wanted = list(new)
    told = {event.event_id: event for event in (*(delivery.event for delivery in wanted), *unaddressed)}
    if told:
        _INSERT_EVENT.execute(connection, [new_event(event) for event in told.values()])
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
    return run.envelope.redelivered and not _names(run)


def _earlier_copy(connection: Connection, run: Run) -> Run | None:
    """The run that an earlier delivery of the same keyless message made."""
    query = select(runs).where(
        runs.c.idempotency_key.is_(None),
        runs.c.fingerprint == run.fingerprint,
        runs.c.source == run.envelope.source,
        runs.c.accepted_at >= run.accepted_at - REMEMBER_UNKEYED,
    )
    row = connection.execute(query.order_by(runs.c.run_id.desc()).limit(1)).first()
    return None if row is None else run_of(row)


def _holders(connection: Connection, fresh: Sequence[Run]) -> dict[_Name, Run]:
    """Who holds each key and each seal now: the new run itself, or the one that was there before."""
    names = [name for run in fresh for name in _names(run)]
    keys, seals = [name for name in names if len(name) == KEY], [name for name in names if len(name) == SEAL]
    if not names:
        return {}
    by_key = tuple_(runs.c.source, runs.c.crew, runs.c.idempotency_key).in_(keys)
    by_seal = tuple_(runs.c.source, runs.c.seal).in_(seals)
    holding = [query for query, wanted in ((by_key, keys), (by_seal, seals)) if wanted]
    found = [run_of(row) for row in connection.execute(select(runs).where(or_(*holding)))]
    return {name: run for run in found for name in _names(run)}


def _holder(run: Run, holders: Mapping[_Name, Run]) -> Run | None:
    return next((holders[name] for name in _names(run) if name in holders), None)


def _names(run: Run) -> list[_Name]:
    """What it has of both; without a key it is not known by its lack of one, which it has in common with others."""
    key = (run.envelope.source, run.crew, run.request.idempotency_key)
    seal = (run.envelope.source, run.envelope.seal)
    return [name for name in (key, seal) if name[-1] is not None]


def _insert(connection: Connection, fresh: Sequence[Run]) -> int:
    """How many of these runs were new."""
    return _INSERT_RUN.execute(connection, [new_run(run) for run in fresh])
