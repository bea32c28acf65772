"""The contracts of long-lived services and of the steps that workers run, with their health and fault reports."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bridge.core.runs.quarantine import Quarantined

Item = TypeVar("Item")

Clock = Callable[[], float]
"""The time in seconds since the epoch."""

NewId = Callable[[], str]
"""A new id that sorts by time (UUIDv7)."""

Notify = Callable[[], None]
"""Signals a worker that there may be something to claim; carries no data, and repeated signals collapse into one."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a part works; `detail` is short and names no host and no secret."""

    ok: bool
    detail: str


HealthCheck = Callable[[], Awaitable[Health]]


class ReportFault(Protocol):
    """Logs an unexpected exception once, with its traceback, and counts it by kind; callable from any thread."""

    def __call__(self, kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **about: object) -> None:
        """`about`: the fields that identify the item in the log; `repeated`: it is there already, so only count."""


class Step(Protocol, Generic[Item]):
    """What happens to one item. A worker claims items and passes each to `handle`; `kind` is the kind of its items."""

    name: str
    kind: Quarantined

    async def claim(self, limit: int) -> Sequence[Item]:
        """Claim at most `limit` due items, in a single write, so that a failure leaves none claimed and forgotten."""

    async def handle(self, item: Item) -> None:
        """One I/O, one decision, one write. A step that raises `StoreUnavailable` has requeued its item first."""

    def about(self, item: Item) -> dict[str, object]:
        """Return the fields that identify an item in the log."""

    async def quarantine(self, item: Item) -> None:
        """Quarantine an item whose `handle` raised an unexpected exception, so that it affects no other item."""

    def pause(self) -> float:
        """Return the seconds until the next claim, unless a signal arrives first."""


class Service(Protocol):
    """A long-lived part of the process."""

    name: str

    async def run(self) -> None:
        """Work until stopped. Raises only on a bug, which ends the process."""

    def stop(self) -> None:
        """Take nothing new, finish what is in progress, then let `run` return."""
