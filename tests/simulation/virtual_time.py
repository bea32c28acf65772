"""Virtual time: an event loop whose clock jumps to the next timer, and that makes blocking calls itself.

Nothing waits and nothing runs in another thread, so a seed gives the same history every time.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from tests.simulation.process_tasks import Callback, owner

T = TypeVar("T")
H = TypeVar("H", bound=asyncio.Handle)


class Stuck(BaseException):
    """Every task waits for something that will never happen."""


class _JumpingSelector(selectors.SelectSelector):
    """Advances the clock by a timeout instead of waiting for it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs a virtual hour in the time that its callbacks take."""

    def __init__(self) -> None:
        self._selector_of_time = _JumpingSelector()
        super().__init__(self._selector_of_time)

    def time(self) -> float:
        return self._selector_of_time.now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        return _callback(super().call_soon, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return _callback(partial(super().call_at, when), callback, args, context)

    def create_task(self, coro: Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:  # type: ignore[override]
        task = super().create_task(coro, **options)
        if (process := owner(options.get("context"))) is not None:
            process.tasks.append(task)
        return task

    def run_in_executor(self, _: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Make the call at once, and deliver the result in the next iteration: a thread would need real time."""
        future = self.create_future()
        try:
            outcome = function(*args)
        except Exception as error:  # noqa: BLE001 - any error belongs to the caller that awaits the future
            self.call_soon(_deliver, future.set_exception, error)
        else:
            self.call_soon(_deliver, future.set_result, outcome)
        return future


def _callback(
    schedule: Callable[..., H], callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
) -> H:
    """Callbacks of a process wait while it is frozen."""
    process = owner(context)
    if process is None or isinstance(callback, Callback):
        return schedule(callback, *args, context=context)
    acquire = Callback(process, callback, context)
    handle = acquire.handle = schedule(acquire, *args, context=context)
    return handle


def _deliver(set_result: Callable[[Any], None], outcome: object) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the caller was cancelled
        set_result(outcome)


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; raise `Stuck` when nothing can happen any more."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
