"""Progress in every dialect, with missing and absurd numbers."""

from typing import Any

import pytest

from bridge.core.crew.progress import read_final_progress, read_progress

NOTHING = {"unit": "task", "completed": None, "total": None, "current": None}


# Crew API contract, body 19
@pytest.mark.parametrize(
    ("body", "progress"),
    [
        ({"progress": {"completed_tasks": 0, "total_tasks": 3}, "current_task": None}, {"completed": 0, "total": 3}),
        (
            {"progress": {"completed_tasks": 1, "total_tasks": 3}, "current_task": "draft"},
            {"completed": 1, "total": 3, "current": "draft"},
        ),
        ({"current_task": "collect"}, {"current": "collect"}),
        ({"progress": {"completed_tasks": "1", "total_tasks": 0}}, {}),
        ({"progress": {"completed_tasks": True, "total_tasks": 1e300}}, {}),
        ({"progress": {"completed_tasks": -1, "total_tasks": [3]}, "current_task": {"name": "x"}}, {}),
        ({"progress": {"total_tasks": 3}, "current_task": "x" * 5000}, {"total": 3, "current": "x" * 200}),
    ],
)
def test_the_published_form_is_converted_to_that_of_the_live_api(body: Any, progress: Any):
    assert read_progress(body) == NOTHING | progress


@pytest.mark.parametrize(
    "body", [{}, {"progress": None}, {"progress": [1]}, {"current_task": None}, {"current_task": ""}]
)
def test_a_status_without_progress_reports_none(body: Any):
    assert read_progress(body) in (None, NOTHING)


def test_the_form_of_the_live_api_is_unchanged():
    live = {"unit": "step", "completed": 4, "total": None, "current": "review", "anything": [1]}
    assert read_progress({"progress": live, "current_task": "ignored"}) == live


def test_the_published_end_reports_tasks_and_time():
    assert read_final_progress({"execution_time": 61.9}, 2) == NOTHING | {
        "completed": 2,
        "total": 2,
        "duration_seconds": 61.9,
    }
    assert read_final_progress({"execution_time": 61.9}, 0) == NOTHING | {"duration_seconds": 61.9}
    assert read_final_progress({"execution_time": "long"}, 2) is None
    assert read_final_progress({}, 2) is None
    assert read_final_progress({"execution_time": 9, "progress": {"completed": 3}}, 2) == {"completed": 3}
