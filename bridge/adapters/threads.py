"""Thread pools that start all threads at once, so that a lack of memory fails the start of the process.

A pool that starts threads on demand would fail requests later.
"""

import threading
from concurrent.futures import ThreadPoolExecutor


def start_threads(number: int, name: str, stack_bytes: int = 0) -> ThreadPoolExecutor:
    """Start a pool of `number` threads. `stack_bytes`: stack size of each; 0: the system's default.

    Raises `RuntimeError` if a thread cannot be started.
    """
    threads = ThreadPoolExecutor(number, thread_name_prefix=name)
    barrier = threading.Barrier(number + 1)
    former_size = threading.stack_size(stack_bytes)
    try:
        for _ in range(number):
            threads.submit(barrier.wait)
    except RuntimeError:
        barrier.abort()
        raise
    finally:
        threading.stack_size(former_size)
    barrier.wait()
    return threads
