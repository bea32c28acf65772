"""Time that costs nothing: an event loop whose clock leaps to the next timer, and SQLite on the loop's own thread.

Nothing here waits and nothing runs in another thread, so a seed gives the same history every time.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar
from unittest.mock import patch

import aiosqlite.core

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
        """Make the call at once: a thread would need real time."""
        future = self.create_future()
        _AtOnce().put_nowait((future, lambda: function(*args)))
        return future


class _NoThread:
    """Stands where aiosqlite has a thread."""

    daemon = True

    def __init__(self, **_: Any) -> None:
        """Take what a thread takes."""

    def start(self) -> None:
        """There is nothing to start."""


class _AtOnce:
    """Stands where aiosqlite queues calls for its thread: makes the call now, answers in the loop's next turn."""

    def put_nowait(self, call: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        future, function = call
        deliver: Callable[[asyncio.Future[Any], Any], None] = aiosqlite.core.set_result
        try:
            outcome = function()
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to whoever waits for the future
            outcome, deliver = error, aiosqlite.core.set_exception
        if future is not None:
            future.get_loop().call_soon(deliver, future, outcome)


@contextlib.contextmanager
def sqlite_without_threads() -> Iterator[None]:
    """Until left, new aiosqlite connections make their calls on the thread of the loop."""
    with patch.object(aiosqlite.core, "Thread", _NoThread), patch.object(aiosqlite.core, "SimpleQueue", _AtOnce):
        yield


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; raises `Stuck` when nothing can happen any more."""
    with sqlite_without_threads(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
