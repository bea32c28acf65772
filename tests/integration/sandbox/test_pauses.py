"""Pauses delay the rest of an execution; only answers and stops change it."""

import pytest

from bridge.sandbox.execution import Execution
from bridge.sandbox.milestones import milestones

START = 100.0


def with_questions(questions: int, seconds: float = 30.0) -> Execution:
    return Execution("id", {"topic": "tides"}, None, START, START + seconds, questions=questions)


def rounded_milestones(execution: Execution) -> list[tuple[float, str, int]]:
    return [(round(stone.at - START, 3), stone.what, stone.task) for stone in milestones(execution)]


def test_without_questions_nothing_pauses() -> None:
    execution = with_questions(0)
    assert execution.pauses_at is None
    assert not execution.waiting(START + 1000)


def test_the_questions_are_spread_evenly_over_the_run_time() -> None:
    execution = with_questions(3)
    moments = []
    while (moment := execution.pauses_at) is not None:
        moments.append(moment - START)
        execution.resume(moment)
    assert moments == pytest.approx([5, 15, 25])


def test_the_clock_of_an_execution_stops_while_it_waits() -> None:
    execution = with_questions(1)
    assert not execution.waiting(START + 14.9)
    for later in (15, 500):
        assert execution.waiting(START + later)
        assert not execution.over(START + later)
        assert execution.share(START + later) == pytest.approx(0.5)
    execution.resume(START + 500)
    assert (execution.ends_at, execution.seconds) == (START + 515, 30)
    assert execution.over(START + 515)


def test_a_repeat_runs_the_paused_task_again_and_then_asks_again() -> None:
    execution = with_questions(1)
    first = execution.question_id
    execution.repeat(START + 20)
    assert execution.question_id != first
    assert execution.share(START + 20) == pytest.approx(1 / 3)
    assert execution.pauses_at == pytest.approx(START + 25)


def test_every_question_has_its_own_id_and_a_restart_gives_the_same() -> None:
    execution, twin = with_questions(2), with_questions(2)
    ids = [execution.question_id]
    execution.repeat(START + 10)
    ids.append(execution.question_id)
    execution.resume(START + 20)
    ids.append(execution.question_id)
    assert len(set(ids)) == 3
    assert twin.question_id == ids[0]


@pytest.mark.parametrize("moment", [0, 10, 20])
def test_a_stop_ends_it_in_any_state(moment: float) -> None:
    execution = with_questions(1)
    execution.stop(START + moment)
    assert execution.over(START + moment)
    assert execution.revoked


def test_an_execution_of_zero_length_can_wait() -> None:
    execution = with_questions(1, seconds=0)
    assert execution.waiting(START)
    assert execution.share(START + 10) == 0
    execution.resume(START + 10)
    assert execution.over(START + 10)


def test_the_milestones_of_a_complete_execution() -> None:
    assert rounded_milestones(with_questions(0)) == [
        (0, "begin", 0),
        (0, "task_started", 0),
        (2.5, "step", 0),
        (10, "task_done", 0),
        (10, "task_started", 1),
        (12.5, "step", 1),
        (20, "task_done", 1),
        (20, "task_started", 2),
        (30, "task_done", 2),
        (30, "end", 0),
    ]


def test_the_milestones_of_zero_length_are_the_same() -> None:
    assert [stone[1:] for stone in rounded_milestones(with_questions(0, seconds=0))] == [
        stone[1:] for stone in rounded_milestones(with_questions(0))
    ]


def test_a_failure_leaves_the_last_task_unfinished() -> None:
    execution = with_questions(0)
    execution.failure = "ValueError: no"
    assert rounded_milestones(execution)[-2:] == [(30, "task_failed", 2), (30, "end", 0)]


def test_the_milestones_stop_at_a_pause_and_continue_after_it() -> None:
    execution = with_questions(1)
    assert rounded_milestones(execution)[-2:] == [(12.5, "step", 1), (15, "pause", 1)]
    execution.resume(START + 115)
    assert rounded_milestones(execution) == [
        (115, "resumed", 0),
        (120, "task_done", 1),
        (120, "task_started", 2),
        (130, "task_done", 2),
        (130, "end", 0),
    ]


def test_a_repeat_starts_its_task_once_more() -> None:
    execution = with_questions(1)
    execution.repeat(START + 15)
    assert rounded_milestones(execution) == [
        (15, "resumed", 0),
        (15, "task_started", 1),
        (17.5, "step", 1),
        (20, "pause", 1),
    ]


@pytest.mark.parametrize("questions", range(1, 25))
def test_with_any_number_of_questions_every_task_ends_exactly_once(questions: int) -> None:
    execution = with_questions(questions)
    path = milestones(execution)
    while execution.pauses_at is not None:
        execution.resume(execution.pauses_at + 7)
        path += milestones(execution)
    assert [stone.task for stone in path if stone.what == "task_done"] == [0, 1, 2]
    assert [stone.task for stone in path if stone.what == "task_started"] == [0, 1, 2]
    assert [stone.task for stone in path if stone.what == "step"] == [0, 1]
    assert len([stone for stone in path if stone.what == "pause"]) == questions
    assert [stone.at for stone in path] == sorted(stone.at for stone in path)
