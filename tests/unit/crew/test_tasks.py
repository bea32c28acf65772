"""Tasks of an execution: reported in several forms, repeatedly, and in any size."""

from typing import Any

import pytest

from bridge.core.crew.tasks import (
    MAX_BYTES,
    MAX_OUTPUT,
    MAX_TASKS,
    NO_TASKS,
    ReportedTasks,
    read_task,
    read_tasks,
    with_reported,
    with_task,
)
from bridge.core.runs.model import Task

COLLECT, VERDICT = Task("collect", "Researcher", "1. ..."), Task("verdict", "Judge", "go")
LISTED = [
    {"task_id": "collect", "agent": "Researcher", "output": "1. ..."},
    {"name": "verdict", "agent": "Judge", "raw": "go"},
]


def all_of(*tasks: Task) -> ReportedTasks:
    return ReportedTasks(tasks, len(tasks))


def last_of(task: Task) -> ReportedTasks:
    return ReportedTasks((task,))


@pytest.mark.parametrize("name", ["tasks", "tasks_output", "task_outputs"])
def test_all_tasks_are_read_from_every_list(name: str):
    assert read_tasks({name: LISTED}, wrapped=False) == all_of(COLLECT, VERDICT)
    assert read_tasks({"result": {name: LISTED}}, wrapped=True) == all_of(COLLECT, VERDICT)


def test_a_result_with_a_state_is_not_searched_for_tasks():
    assert read_tasks({"result": {"tasks": LISTED}}, wrapped=False) == NO_TASKS


def test_the_live_status_reports_the_last_task():
    assert read_tasks({"last_executed_task": LISTED[1]}, wrapped=False) == last_of(VERDICT)
    assert read_tasks({"last_executed_task": LISTED[1], "tasks": LISTED}, wrapped=False) == all_of(COLLECT, VERDICT)


@pytest.mark.parametrize("body", [{}, {"last_executed_task": "x"}, {"tasks": "x"}, {"tasks": []}, {"result": {}}])
def test_a_status_may_report_no_task(body: Any):
    assert read_tasks(body, wrapped=True) == NO_TASKS


@pytest.mark.parametrize(
    ("content", "task"),
    [
        ({"name": "n", "agent": "a", "output": {"score": 8}}, Task("n", "a", {"score": 8})),
        ({"name": "n" * 500, "agent": ["a"], "output": "", "raw": "x"}, Task("n" * 200, None, "")),
        ({"name": "", "output": None, "json_dict": [1]}, Task(None, None, [1])),
        ({"output": False}, Task(None, None, False)),
        ({}, Task(None, None, None)),
    ],
)
def test_a_task_is_read_with_any_output(content: Any, task: Task):
    assert read_task(content) == task


def test_a_repeated_task_is_known():
    known = with_task((), Task("collect", "Researcher", "1. ...", 5.0))
    assert with_task(known, Task("collect", "Researcher", "1. ...", 9.0)) == known
    assert len(with_task(known, Task("collect", "Researcher", "2. ...", 9.0))) == 2


def test_the_last_task_is_added_to_the_known_ones():
    assert with_reported((COLLECT,), last_of(VERDICT)) == (COLLECT, VERDICT)
    assert with_reported((COLLECT, VERDICT), last_of(VERDICT)) == (COLLECT, VERDICT)
    assert with_reported((COLLECT,), NO_TASKS) == (COLLECT,)


def test_a_complete_list_replaces_the_known_tasks_and_keeps_their_times():
    known = (Task("verdict", None, "go, shortened", 9.0), Task("collect", "Researcher", "1. ...", 5.0))
    assert with_reported(known, all_of(COLLECT, VERDICT)) == (
        Task("collect", "Researcher", "1. ...", 5.0),
        Task("verdict", "Judge", "go", 9.0),
    )


def test_a_list_that_lacks_a_known_task_replaces_none():
    assert with_reported((COLLECT,), all_of(VERDICT)) == (COLLECT, VERDICT)


def test_tasks_are_bounded_in_number_and_bytes():
    many: tuple[Task, ...] = ()
    for number in range(MAX_TASKS + 5):
        many = with_task(many, Task(f"t{number}", None, number))
    assert [task.output for task in many] == list(range(5, MAX_TASKS + 5))
    large: tuple[Task, ...] = ()
    for number in range(6):
        large = with_task(large, read_task({"name": f"t{number}", "output": "ä" * MAX_OUTPUT}))
    assert [len((task.output or "").encode()) for task in large] == [0, 0, *[MAX_OUTPUT] * (MAX_BYTES // MAX_OUTPUT)]


def test_of_many_tasks_only_those_that_are_kept_are_read():
    """Reading each of 95,000 tasks took 3 s, in which the bridge did nothing else."""
    read = list[str]()

    class Recorded(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            read.append(self["name"])
            return super().get(name, default)

    listed = [Recorded(name=str(number), output="x") for number in range(1000)]
    reported = read_tasks({"tasks_output": listed}, wrapped=True)
    assert {task.name for task in reported.tasks} == set(read) == {str(number) for number in range(950, 1000)}
    assert reported.finished == 1000


def test_an_output_that_is_too_large_is_cut_if_it_is_text():
    assert read_task({"output": "x" + "ä" * MAX_OUTPUT}).output == "x" + "ä" * (MAX_OUTPUT // 2 - 1)
    assert read_task({"output": ["x" * MAX_OUTPUT]}).output is None
