"""The cache of runs: small, and limited to the latest runs."""

from dataclasses import replace

from bridge.core.runs.cache import MAX_RUNS, MAX_VARIABLE_CHARS, RunCache
from tests.fakes import a_run, run_id


def test_a_cached_run_is_returned_once_and_without_its_inputs() -> None:
    recent, run = RunCache(), a_run(1, meta={"order": 7})
    recent.put(run)
    taken = recent.pop(run.run_id)
    assert taken is not None
    assert (taken.run_id, taken.request.inputs, taken.request.meta) == (run.run_id, {}, {"order": 7})
    assert recent.pop(run.run_id) is None


def test_the_oldest_run_is_evicted() -> None:
    recent = RunCache()
    for number in range(MAX_RUNS + 1):
        recent.put(a_run(number))
    assert recent.pop(run_id(0)) is None
    assert recent.pop(run_id(1)) is not None


def test_a_run_with_large_meta_is_not_cached() -> None:
    recent = RunCache()
    recent.put(a_run(1, meta={"note": "x" * MAX_VARIABLE_CHARS}))
    assert recent.pop(run_id(1)) is None


def test_a_run_with_large_progress_is_not_cached() -> None:
    recent, run = RunCache(), a_run(1)
    recent.put(run)
    recent.put(replace(run, progress={"current": "x" * MAX_VARIABLE_CHARS}))
    assert recent.pop(run_id(1)) is None
