"""The course of an execution is determined at its kickoff."""

from typing import Any

from bridge.sandbox import SandboxSettings, parse_run_time
from bridge.sandbox.controls import Controls
from bridge.sandbox.execution import Execution
from bridge.sandbox.planner import FAILURE, Planner, Slots

RANDOM = Controls()


def plans(count: int, controls: Controls = RANDOM, **settings: Any) -> list[Execution]:
    planner = Planner(SandboxSettings(**settings))
    return [planner.plan(f"id-{number}", number, {}, None, controls, 100.0) for number in range(1, count + 1)]


def run_times(executions: list[Execution]) -> list[float]:
    return [execution.ends_at - execution.starts_at for execution in executions]


def test_the_same_seed_gives_the_same_executions() -> None:
    settings: dict[str, Any] = {"run_time": parse_run_time("uniform:1:5"), "failure_rate": 0.5}
    assert plans(20, seed=1, **settings) == plans(20, seed=1, **settings)
    assert plans(20, seed=1, **settings) != plans(20, seed=2, **settings)


def test_the_random_numbers_of_a_kickoff_depend_on_its_number_and_not_on_its_past() -> None:
    settings = SandboxSettings(run_time=parse_run_time("uniform:1:5"), seed=3)
    alone = Planner(settings).plan("id-9", 9, {}, None, Controls(), 100.0)
    assert alone == plans(9, run_time=settings.run_time, seed=3)[8]


def test_a_fixed_outcome_does_not_change_the_run_time() -> None:
    settings: dict[str, Any] = {"run_time": parse_run_time("uniform:1:5"), "seed": 4}
    failing = plans(5, Controls(outcome="failure"), **settings)
    assert run_times(failing) == run_times(plans(5, **settings))
    assert {execution.failure for execution in failing} == {FAILURE}


def test_about_the_given_rate_of_executions_fails() -> None:
    failed = [execution for execution in plans(1000, failure_rate=0.3) if execution.failure]
    assert 250 < len(failed) < 350


def test_without_a_limit_of_workers_everything_starts_at_once() -> None:
    slots = Slots(None)
    assert [slots.reserve(10.0, 5.0) for _ in range(50)] == [10.0] * 50


def test_excess_executions_start_in_order_when_a_worker_is_free() -> None:
    slots = Slots(2)
    assert [slots.reserve(0.0, seconds) for seconds in (10.0, 4.0, 3.0, 1.0)] == [0.0, 0.0, 4.0, 7.0]


def test_a_free_worker_is_used_at_once() -> None:
    slots = Slots(1)
    slots.reserve(0.0, 5.0)
    assert slots.reserve(20.0, 5.0) == 20.0


def test_executions_wait_for_busy_workers() -> None:
    slots = Slots(2, busy_until=[3.0, 50.0, 40.0])
    assert [slots.reserve(10.0, 100.0) for _ in range(2)] == [40.0, 50.0]


def test_an_execution_of_zero_length_ends_at_once() -> None:
    execution = Execution("id", {}, None, 5.0, 5.0)
    assert execution.over(5.0)
    assert execution.share(5.0) == 1.0
