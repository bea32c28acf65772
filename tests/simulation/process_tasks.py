"""The callbacks and tasks of each simulated process, so that one can be suspended while others run."""

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any


class Process:
    """Everything started in its `context` belongs to it, and everything started by that."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []  # in order, or a death would take another course each time
        self.frozen = self.was_frozen = False
        self._held: list[tuple[Callback, tuple[Any, ...], Context | None]] = []

    def context(self) -> Context:
        context = Context()
        context.run(_OWNER.set, self)
        return context

    def freeze(self) -> None:
        """Like SIGSTOP: none of its callbacks runs; its timers expire without effect for now."""
        self.frozen = self.was_frozen = True

    def thaw(self) -> None:
        """Like SIGCONT: all pending callbacks run, in the order in which they became due."""
        self.frozen = False
        held, self._held = self._held, []
        for acquire, args, context in held:
            asyncio.get_running_loop().call_soon(acquire, *args, context=context)

    def hold(self, acquire: "Callback", args: tuple[Any, ...], context: Context | None) -> None:
        self._held.append((acquire, args, context))


_OWNER: ContextVar[Process | None] = ContextVar("owner", default=None)


def owner(context: Context | None) -> Process | None:
    """The process that a context, or else the current one, belongs to; None: the environment."""
    return _OWNER.get() if context is None else context.get(_OWNER)


class Callback:
    """A callback of a process; it runs only while the process is not frozen."""

    handle: asyncio.Handle

    def __init__(self, process: Process, callback: Callable[..., object], context: Context | None) -> None:
        self._process = process
        self._callback = callback
        self._context = context

    def __call__(self, *args: Any) -> None:
        if self.handle.cancelled():  # by an earlier callback, when the process resumed
            return
        if self._process.frozen:
            self._process.hold(self, args, self._context)
        else:
            self._callback(*args)
