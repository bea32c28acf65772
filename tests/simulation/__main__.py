"""`python -m tests.simulation --seeds 10000`: simulate many histories; `--seed N` repeats one, with its log."""

import argparse
import os
import time
import traceback
from collections import Counter
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import structlog

from tests.fakes import memory_folder
from tests.simulation.run import empty_store, play


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.simulation")
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--seed", type=int)
    options.add_argument("--fail-fast", action="store_true")
    given = options.parse_args()
    with memory_folder() as folder:
        empty = empty_store(Path(folder))
        if given.seed is not None:
            history = play(given.seed, empty)
            print(dict(history.world.seen))
            return 0
        return many(range(given.first, given.first + given.seeds), empty, fail_fast=given.fail_fast)


def many(seeds: range, empty: Path, *, fail_fast: bool) -> int:
    """Simulate all of them on every processor; return the number of broken promises, at most 1 as an exit code."""
    began, seen, broken = time.monotonic(), Counter[str](), 0
    with Pool(os.cpu_count(), quiet) as pool:
        for failure, faults in pool.imap_unordered(partial(attempt, empty=empty), seeds, chunksize=1):
            seen += faults
            broken += failure is not None
            if failure is not None:
                print(failure, flush=True)
            if broken and fail_fast:
                return 1
    print(f"{len(seeds)} histories, {broken} broken, {time.monotonic() - began:.0f} s")
    print("faults:", dict(seen.most_common()))
    return int(broken > 0)


def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def attempt(seed: int, empty: Path) -> tuple[str | None, Counter[str]]:
    try:
        history = play(seed, empty)
    except BaseException:  # noqa: BLE001 - a broken promise of any kind, or a stuck loop
        return f"seed {seed}\n{traceback.format_exc()}", Counter()
    happened = Counter(crashes=history.crashed, stops=history.ended_in_order, virtual_seconds=history.lasted)
    return None, history.world.seen + happened


if __name__ == "__main__":
    raise SystemExit(main())
