"""Run time statistics survive the process and reach other processes on the same store."""

from bridge.core.runs.model import TrackedRun
from bridge.steps.maintenance.run_time_stats import INTERVAL
from tests.component.steps.conftest import Bench


def learn(bench: Bench, number: int) -> None:
    """A run that took between 20 and 30 seconds."""
    now = bench.clock()
    tracked = TrackedRun(f"run-{number}", "research", "k", 600.0, now, began_at=now - 30.0, seen_at=now - 10.0)
    bench.crew.planner.observe_poll(tracked, now, ended=True)


def count(bench: Bench) -> int:
    run_time_stats = bench.crew.planner.run_time_stats()
    return 0 if run_time_stats is None else run_time_stats.count


async def test_learned_run_times_survive_a_restart(bench: Bench):
    for number in range(20):
        learn(bench, number)
    await bench.round(bench.steps.run_times)
    restarted = bench.another()
    await restarted.round(restarted.steps.run_times)
    assert restarted.crew.planner.run_time_stats() == bench.crew.planner.run_time_stats()
    assert restarted.crew.planner.take_unsaved() == []


async def test_processes_on_one_store_learn_from_each_other(bench: Bench):
    bench.store, other = bench.another_process("me"), bench.another()
    ours, theirs = bench.steps.run_times, other.steps.run_times
    await bench.round(ours)
    await other.round(theirs)
    for number in range(3):
        learn(bench, number)
        learn(other, 10 + number)
        bench.clock.forward(INTERVAL)
        await bench.round(ours)
        await other.round(theirs)
    bench.clock.forward(INTERVAL)
    await bench.round(ours)
    assert (count(bench), count(other)) == (6, 6)


async def test_a_single_process_reads_once(bench: Bench):
    step = bench.steps.run_times
    await bench.round(step)
    learn(bench.another(), 1)
    bench.clock.forward(INTERVAL)
    await bench.round(step)
    assert count(bench) == 0


async def test_nothing_is_written_between_rounds(bench: Bench):
    step = bench.steps.run_times
    await bench.round(step)
    learn(bench, 1)
    assert await step.claim(1) == []
    assert step.pause() == INTERVAL
    assert await bench.store.run_times.newest("research", 0.0, 9) == []
