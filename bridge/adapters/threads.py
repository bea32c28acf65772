"""Thread pools that start all threads at once, so that a lack of memory fails the start of the process.

A pool that starts threads on demand would fail requests later.
"""

import threading
from concurrent.futures import ThreadPoolExecutor


def start_threads(number: int, name: str) -> ThreadPoolExecutor:
    """Start a pool of `number` threads. Raises `RuntimeError` if one of them cannot be started."""
    threads = ThreadPoolExecutor(number, thread_name_prefix=name)
    barrier = threading.Barrier(number + 1)
    try:
        for _ in range(number):
            threads.submit(barrier.wait)
    except RuntimeError:
        barrier.abort()
        raise
    barrier.wait()
    return threads
