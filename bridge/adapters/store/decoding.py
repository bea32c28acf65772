"""Rows that cannot be decoded, left by a bug or an edit of the database: each costs only itself."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, update

from bridge.adapters.store.rows import delivery_from_row, run_from_row
from bridge.adapters.store.schema import deliveries, runs
from bridge.core.delivery.model import Delivery, DeliveryState
from bridge.core.runs.model import Run
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import ReportFault

T = TypeVar("T")
IdColumn = Literal["run_id", "delivery_id", "event_id"]

MAX_REMEMBERED = 10_000  # undecodable rows
POSTPONED_FOR = 3600.0  # seconds until a run that cannot be decoded is claimed again
LAST_ERROR = "internal error: the stored delivery cannot be decoded; item_quarantined in the log says more"


@dataclass(frozen=True, slots=True)
class UndecodableRow:
    """The id of a row, the column that it is from, and what decoding the row raised."""

    id_column: IdColumn
    id: str
    error: Exception


def decoded(rows: Iterable[Any], read: Callable[[Any], T], id_column: IdColumn) -> tuple[list[T], list[UndecodableRow]]:
    """Return what can be decoded, and what cannot."""
    found, undecodable = [], []
    for row in rows:
        try:
            found.append(read(row))
        except Exception as error:  # noqa: BLE001 - whatever it is must not hide the other rows
            undecodable.append(UndecodableRow(id_column, getattr(row, id_column), error))
    return found, undecodable


ReportUndecodable = Callable[[Iterable[UndecodableRow]], None]


class UndecodableReports:
    """Long-lived: reports undecodable rows, and marks those reported before, which every list and claim finds again.

    Callable from any thread. Beyond `MAX_REMEMBERED` rows, the one first reported is forgotten.
    """

    def __init__(self, report: ReportFault) -> None:
        self._report = report
        self._reported: dict[tuple[IdColumn, str], None] = {}
        self._lock = Lock()

    def __call__(self, undecodable: Iterable[UndecodableRow]) -> None:
        """Report each row."""
        for one in undecodable:
            kind = Quarantined.RUN if one.id_column == "run_id" else Quarantined.DELIVERY
            self._report(kind, one.error, repeated=self._repeated(one), **{one.id_column: one.id}, task="decode")

    def _repeated(self, one: UndecodableRow) -> bool:
        key = (one.id_column, one.id)
        with self._lock:
            if key in self._reported:
                return True
            if len(self._reported) >= MAX_REMEMBERED:
                del self._reported[next(iter(self._reported))]
            self._reported[key] = None
            return False


def readable_runs(rows: Iterable[Any], report: ReportUndecodable) -> list[Run]:
    """Return the runs that can be decoded, and report the others."""
    return readable(rows, run_from_row, "run_id", report)


def readable_deliveries(rows: Iterable[Any], report: ReportUndecodable) -> list[Delivery]:
    """Return the deliveries that can be decoded, and report the others."""
    return readable(rows, delivery_from_row, "delivery_id", report)


def runs_by_id(rows: Iterable[Any]) -> dict[str, Run | Exception]:
    """Return the runs by their ids; in place of one that cannot be decoded, what decoding it raised."""
    found, undecodable = decoded(rows, run_from_row, "run_id")
    return {run.run_id: run for run in found} | {one.id: one.error for one in undecodable}


def readable(rows: Iterable[Any], read: Callable[[Any], T], id_column: IdColumn, report: ReportUndecodable) -> list[T]:
    """Return what can be decoded, and report the rest."""
    found, undecodable = decoded(rows, read, id_column)
    report(undecodable)
    return found


def postpone(connection: Connection, undecodable: Sequence[UndecodableRow], now: float) -> None:
    """Release claimed runs, due later."""
    ids = [one.id for one in undecodable]
    later = update(runs).where(runs.c.run_id.in_(ids)).values(owner=None, due_at=now + POSTPONED_FOR)
    connection.execute(later.values(version=runs.c.version + 1))


def mark_dead(connection: Connection, undecodable: Sequence[UndecodableRow]) -> None:
    """Release claimed deliveries as dead ones."""
    dead = {"owner": None, "state": DeliveryState.DEAD.value, "last_error": LAST_ERROR}
    ids = [one.id for one in undecodable]
    connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(ids)).values(dead))
