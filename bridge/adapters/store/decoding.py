"""Decodes rows so that an undecodable one, left by a bug or a manual edit, affects no other row."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection, case, update

from bridge.adapters.store.rows import delivery_from_row, run_from_row
from bridge.adapters.store.schema import deliveries, runs
from bridge.core.delivery.model import Delivery, DeliveryState
from bridge.core.runs.model import Run
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import ReportFault

T = TypeVar("T")
IdColumn = Literal["run_id", "delivery_id", "event_id"]

MAX_REMEMBERED = 10_000  # undecodable rows whose report is remembered
POSTPONED_FOR = 3600.0  # seconds until a run that cannot be decoded is claimed again
LAST_ERROR = "internal error: the stored delivery cannot be decoded; see item_quarantined in the log"


@dataclass(frozen=True, slots=True)
class UndecodableRow:
    """The id of a row, the column of the id, and the exception that decoding raised."""

    id_column: IdColumn
    id: str
    error: Exception


def decode_rows(
    rows: Iterable[Any], read: Callable[[Any], T], id_column: IdColumn
) -> tuple[list[T], list[UndecodableRow]]:
    """Decode rows; return the items, and the rows that cannot be decoded."""
    found, undecodable = [], []
    for row in rows:
        try:
            found.append(read(row))
        except Exception as error:  # noqa: BLE001 - must not affect the other rows
            undecodable.append(UndecodableRow(id_column, getattr(row, id_column), error))
    return found, undecodable


ReportUndecodable = Callable[[Iterable[UndecodableRow]], None]


class UndecodableReports:
    """Reports undecodable rows, and marks those reported before, because every list and claim finds them again.

    Long-lived, callable from any thread. Beyond `MAX_REMEMBERED` rows, the first one reported is forgotten.
    """

    def __init__(self, report: ReportFault) -> None:
        self._report = report
        self._reported: dict[tuple[IdColumn, str], None] = {}
        self._lock = Lock()

    def __call__(self, undecodable: Iterable[UndecodableRow]) -> None:
        """Report each row."""
        for row in undecodable:
            kind = Quarantined.RUN if row.id_column == "run_id" else Quarantined.DELIVERY
            self._report(kind, row.error, repeated=self._repeated(row), **{row.id_column: row.id}, task="decode")

    def _repeated(self, row: UndecodableRow) -> bool:
        key = (row.id_column, row.id)
        with self._lock:
            if key in self._reported:
                return True
            if len(self._reported) >= MAX_REMEMBERED:
                del self._reported[next(iter(self._reported))]
            self._reported[key] = None
            return False


def deliveries_from_rows(rows: Iterable[Any], report: ReportUndecodable) -> list[Delivery]:
    """Return the deliveries that can be decoded, and report the others."""
    return decode_and_report(rows, delivery_from_row, "delivery_id", report)


def runs_by_id(rows: Iterable[Any]) -> dict[str, Run | Exception]:
    """Return the runs by id; for one that cannot be decoded, the exception that decoding raised."""
    found, undecodable = decode_rows(rows, run_from_row, "run_id")
    return {run.run_id: run for run in found} | {row.id: row.error for row in undecodable}


def decode_and_report(
    rows: Iterable[Any], read: Callable[[Any], T], id_column: IdColumn, report: ReportUndecodable
) -> list[T]:
    """Return the items that can be decoded, and report the other rows."""
    found, undecodable = decode_rows(rows, read, id_column)
    report(undecodable)
    return found


def postpone(connection: Connection, undecodable: Sequence[UndecodableRow], now: float) -> None:
    """Release runs, and make them due later; those that have expired expire then, and are not started before."""
    later = now + POSTPONED_FOR
    expires_at = case((runs.c.expires_at <= now, later), else_=runs.c.expires_at)
    values = {"owner": None, "due_at": later, "expires_at": expires_at, "version": runs.c.version + 1}
    connection.execute(update(runs).where(runs.c.run_id.in_([row.id for row in undecodable])).values(values))


def mark_dead(connection: Connection, undecodable: Sequence[UndecodableRow]) -> None:
    """Release claimed deliveries as dead."""
    dead = {"owner": None, "state": DeliveryState.DEAD.value, "last_error": LAST_ERROR}
    ids = [row.id for row in undecodable]
    connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(ids)).values(dead))
