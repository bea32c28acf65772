"""What is known of runs without asking the store is little, and only of the latest."""

from dataclasses import replace

from bridge.core.runs.cache import MOST, MUCH, RunCache
from tests.fakes import a_run, run_id


def test_a_run_is_taken_once_and_without_its_inputs() -> None:
    recent, run = RunCache(), a_run(1, meta={"order": 7})
    recent.keep(run)
    taken = recent.take(run.run_id)
    assert taken is not None
    assert (taken.run_id, taken.request.inputs, taken.request.meta) == (run.run_id, {}, {"order": 7})
    assert recent.take(run.run_id) is None


def test_the_oldest_makes_way() -> None:
    recent = RunCache()
    for number in range(MOST + 1):
        recent.keep(a_run(number))
    assert recent.take(run_id(0)) is None
    assert recent.take(run_id(1)) is not None


def test_a_run_with_much_meta_is_not_kept() -> None:
    recent = RunCache()
    recent.keep(a_run(1, meta={"note": "x" * MUCH}))
    assert recent.take(run_id(1)) is None


def test_nor_is_one_whose_progress_has_become_much() -> None:
    recent, run = RunCache(), a_run(1)
    recent.keep(run)
    recent.keep(replace(run, progress={"current": "x" * MUCH}))
    assert recent.take(run_id(1)) is None
