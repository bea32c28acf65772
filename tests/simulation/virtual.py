"""Time that costs nothing: an event loop whose clock leaps to the next timer, and that makes calls that block itself.

Nothing here waits and nothing runs in another thread, so a seed gives the same history every time.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(BaseException):
    """Every task waits for something that will never come."""


class _Leaping(selectors.SelectSelector):
    """Does not wait for a timeout but moves the clock by it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs a virtual hour in the time that its callbacks take."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now

    def run_in_executor(self, _: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Make the call at once, and answer in the next turn: a thread would need real time."""
        future = self.create_future()
        try:
            outcome = function(*args)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever waits for the future
            self.call_soon(_deliver, future.set_exception, error)
        else:
            self.call_soon(_deliver, future.set_result, outcome)
        return future


def _deliver(answer: Callable[[Any], None], outcome: object) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # whoever asked was cancelled
        answer(outcome)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; raises `Stuck` when nothing can happen any more."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
