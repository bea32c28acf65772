"""Thread pools whose threads exist from the start: one that cannot be started ends the start of the process.

A pool that starts threads on demand would fail requests instead, in the moment at which memory is scarce.
"""

import threading
from concurrent.futures import ThreadPoolExecutor


def started_threads(number: int, name: str, stack_bytes: int = 0) -> ThreadPoolExecutor:
    """Return a pool whose threads have all been started. `stack_bytes`: of each; 0: the system's default.

    Raise `RuntimeError` if one cannot be started.
    """
    threads = ThreadPoolExecutor(number, thread_name_prefix=name)
    all_there = threading.Barrier(number + 1)
    usual = threading.stack_size(stack_bytes)
    try:
        for _ in range(number):
            threads.submit(all_there.wait)
    except RuntimeError:
        all_there.abort()
        raise
    finally:
        threading.stack_size(usual)
    all_there.wait()
    return threads
