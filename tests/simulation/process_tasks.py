"""Which callbacks and tasks belong to which simulated process, so that one can stand still while others go on."""

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any


class Process:
    """Everything that begins in its `context` is its own, and what that begins in turn."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []  # in order, or a death would go another way each time
        self.frozen = self.was_frozen = False
        self._held: list[tuple[Turn, tuple[Any, ...], Context | None]] = []

    def context(self) -> Context:
        context = Context()
        context.run(_OWNER.set, self)
        return context

    def freeze(self) -> None:
        """As SIGSTOP: nothing of it runs, wherever it is; its timers pass and are not heard."""
        self.frozen = self.was_frozen = True

    def thaw(self) -> None:
        """As SIGCONT: everything that came up meanwhile runs, in the order in which it came."""
        self.frozen = False
        held, self._held = self._held, []
        for acquire, args, context in held:
            asyncio.get_running_loop().call_soon(acquire, *args, context=context)

    def hold(self, acquire: "Turn", args: tuple[Any, ...], context: Context | None) -> None:
        self._held.append((acquire, args, context))


_OWNER: ContextVar[Process | None] = ContextVar("owner", default=None)


def owner(context: Context | None) -> Process | None:
    """The process that a context, or else the present one, belongs to; None: the world."""
    return _OWNER.get() if context is None else context.get(_OWNER)


class Turn:
    """A callback of a process, which comes only while that is not frozen."""

    handle: asyncio.Handle

    def __init__(self, process: Process, callback: Callable[..., object], context: Context | None) -> None:
        self._process = process
        self._callback = callback
        self._context = context

    def __call__(self, *args: Any) -> None:
        if self.handle.cancelled():  # by what came before it, when the process woke up
            return
        if self._process.frozen:
            self._process.hold(self, args, self._context)
        else:
            self._callback(*args)
