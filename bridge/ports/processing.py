"""What the long-lived parts have in common: services, the steps that workers drive, and where faults are reported."""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from bridge.core.runs.quarantine import Quarantined

Item = TypeVar("Item")


class ReportFault(Protocol):
    """Logs an unexpected exception with its traceback, once, and counts it by what it cost; callable in any thread."""

    def __call__(self, kind: Quarantined, error: BaseException, /, **about: object) -> None:
        """`about`: what tells the item from others, fit for the log."""


class Step(Protocol, Generic[Item]):
    """What happens to one item; a worker claims items and hands them in. `kind`: what its items are."""

    name: str
    kind: Quarantined

    async def claim(self, room: int) -> Sequence[Item]:
        """Take at most `room` items that are due now; in one write, so that none is taken and then forgotten."""

    async def handle(self, item: Item) -> None:
        """One I/O, one decision, one write. A step that lets `StoreUnavailable` out has put its item back before."""

    def about(self, item: Item) -> dict[str, object]:
        """Return what tells an item from others, fit for the log."""

    async def quarantine(self, item: Item) -> None:
        """Set aside an item whose `handle` raised what was not expected, so that it costs nothing else."""

    def pause(self) -> float:
        """Seconds until claiming is worth it again, unless woken before."""


class Service(Protocol):
    """A long-lived part."""

    name: str

    async def run(self) -> None:
        """Work until stopped; raises only on a bug, which ends the process."""

    def stop(self) -> None:
        """Take nothing new, finish what is in hand, then let `run` return."""
