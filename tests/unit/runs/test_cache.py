"""What is known of runs without asking the store is little, and only of the latest."""

from dataclasses import replace

from bridge.core.runs.cache import MAX_RUNS, MAX_VARIABLE_CHARS, RunCache
from tests.fakes import a_run, run_id


def test_a_run_is_taken_once_and_without_its_inputs() -> None:
    recent, run = RunCache(), a_run(1, meta={"order": 7})
    recent.put(run)
    taken = recent.pop(run.run_id)
    assert taken is not None
    assert (taken.run_id, taken.request.inputs, taken.request.meta) == (run.run_id, {}, {"order": 7})
    assert recent.pop(run.run_id) is None


def test_the_oldest_makes_way() -> None:
    recent = RunCache()
    for number in range(MAX_RUNS + 1):
        recent.put(a_run(number))
    assert recent.pop(run_id(0)) is None
    assert recent.pop(run_id(1)) is not None


def test_a_run_with_much_meta_is_not_kept() -> None:
    recent = RunCache()
    recent.put(a_run(1, meta={"note": "x" * MAX_VARIABLE_CHARS}))
    assert recent.pop(run_id(1)) is None


def test_nor_is_one_whose_progress_has_become_much() -> None:
    recent, run = RunCache(), a_run(1)
    recent.put(run)
    recent.put(replace(run, progress={"current": "x" * MAX_VARIABLE_CHARS}))
    assert recent.pop(run_id(1)) is None
