"""Run an asynchronous context on an event loop in a thread of its own, for callers with or without a loop."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_thread(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter the context in the thread, and leave it there on exit; raise what either of them raises."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with context as value:
            entered.set_result((value, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    with ThreadPoolExecutor(1, thread_name_prefix="kickoff-bridge") as threads:
        running = threads.submit(run)
        value, loop, stop = entered.result()
        try:
            yield value
        finally:
            loop.call_soon_threadsafe(stop.set)
            running.result()
