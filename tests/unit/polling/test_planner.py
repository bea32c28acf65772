"""The poll planner: learning from a crew's run times when to poll."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling import MAX_RUN_TIMES, PollPlanner, RunTimeStats
from bridge.core.polling.planner import MIN_RUNS
from bridge.core.runs.model import RunTime, TrackedRun

NOW = 10_000.0
CREW = CrewPolicy(poll_min_interval=0.1, poll_max_interval=1e6)


def tracked(age: float = 0.0, **changes: Any) -> TrackedRun:
    began = NOW - age
    return replace(TrackedRun("run", "crew", "k", 3600.0, NOW, began_at=began, seen_at=NOW), **changes)


def run_times(seconds: list[float], task_marks: tuple[tuple[int, float], ...] = ()) -> list[RunTime]:
    return [RunTime(f"run-{n}", "crew", float(n), took, took, task_marks) for n, took in enumerate(seconds)]


def taught(
    seconds: list[float], task_marks: tuple[tuple[int, float], ...] = (), policy: CrewPolicy = CREW
) -> PollPlanner:
    planner = PollPlanner(policy)
    planner.add(run_times(seconds, task_marks))
    return planner


SIXTY = [55.0 + n / 10 for n in range(100)]


def test_for_an_unknown_crew_polls_are_steady_and_rarer_for_old_runs():
    planner = PollPlanner(CREW)
    assert planner.pause(tracked(), NOW) == 5.0
    assert planner.pause(tracked(age=600.0), NOW) == 60.0


def test_after_a_few_runs_the_interval_is_steady_and_costs_the_polls_per_run():
    planner = taught([90.0] * (MIN_RUNS - 1))
    assert planner.pause(tracked(), NOW) == 90.0 / 4.5


def test_polls_are_planned_around_the_ends_of_runs():
    planner = taught(SIXTY)
    assert 20.0 < planner.pause(tracked(), NOW) < 60.0
    assert planner.pause(tracked(age=58.0), NOW) < 10.0


def test_another_policy_applies_at_once_to_what_has_been_learned():
    planner = taught(SIXTY)
    before = planner.pause(tracked(age=58.0), NOW)
    planner.use(replace(CREW, poll_min_interval=20.0))
    assert before < 10.0
    assert planner.pause(tracked(age=58.0), NOW) >= 20.0


def test_another_policy_limits_the_interval_of_an_unknown_crew():
    planner = PollPlanner(CREW)
    planner.use(replace(CREW, poll_max_interval=2.0))
    assert planner.pause(tracked(), NOW) == 2.0


def test_the_likelihood_of_an_end_grows_fastest_where_runs_end():
    run_time_stats = taught([60.0, 61.0, 59.0, 60.5, 59.5, 60.0, 62.0, 58.0])
    run_time_stats.pause(tracked(), NOW)
    early, late, over = (run_time_stats.chance_ended(tracked(), NOW + age) for age in (30.0, 59.9, 70.0))
    assert early < 0.2 < late < 0.8 < over < 1.0


def test_for_an_unknown_crew_the_run_polled_longest_ago_is_likeliest_to_have_ended():
    chances = [PollPlanner(CREW).chance_ended(tracked(), NOW + age) for age in (0.0, 1.0, 5.0, 500.0)]
    assert chances == sorted(chances)
    assert (chances[0], chances[2], chances[3] < 1.0) == (0.0, 0.5, True)


def test_a_run_that_waited_for_a_human_has_no_age():
    assert taught(SIXTY).pause(tracked(began_at=None), NOW) == 5.0


def test_the_learned_statistics_are_reported():
    assert PollPlanner(CREW).run_time_stats() is None
    stats = taught([float(n) for n in range(1, 22)]).run_time_stats()
    assert stats == RunTimeStats(21, 11.0, 19.0, tuple(float(n) for n in range(1, 22)))


def test_the_oldest_runs_are_forgotten_and_none_counts_twice():
    planner = taught([1.0] * MAX_RUN_TIMES)
    planner.add([*run_times([1.0]), RunTime("new", "crew", 1e6, 99.0, 99.0)])
    assert planner.run_time_stats() == RunTimeStats(MAX_RUN_TIMES, 1.0, 1.0, (1.0,) * 20 + (99.0,))
    planner.add(run_times([1.0]))  # forgotten, and older than everything kept
    assert planner.run_time_stats() == RunTimeStats(MAX_RUN_TIMES, 1.0, 1.0, (1.0,) * 20 + (99.0,))


def test_plans_are_recomputed_only_after_enough_changes_and_some_time():
    planner = taught(SIXTY)
    old = tracked(age=70.0)
    before = planner.pause(old, NOW)
    planner.add([RunTime(f"late-{n}", "crew", NOW, 600.0, 600.0) for n in range(200)])
    assert planner.pause(old, NOW + 0.5) < before + 5.0
    assert planner.pause(old, NOW + 1.5) > before + 20.0


class TestRunTimes:
    """The lesson of one ended run."""

    def test_the_end_lies_between_the_last_two_polls(self):
        planner = PollPlanner(CREW)
        planner.observe_poll(tracked(age=20.0), NOW + 10.0, ended=True)
        assert planner.take_unsaved() == [RunTime("run", "crew", NOW + 10.0, 20.0, 30.0)]
        assert planner.take_unsaved() == []

    def test_few_run_times_are_kept_for_storage(self):
        planner = PollPlanner(CREW)
        for number in range(MAX_RUN_TIMES + 5):
            planner.observe_poll(tracked(age=20.0, run_id=str(number)), NOW + 10.0, ended=True)
        assert len(planner.take_unsaved()) == MAX_RUN_TIMES

    @pytest.mark.parametrize(("reported", "believed"), [(22.5, True), (20.0, True), (31.0, False), (0.0, False)])
    def test_the_run_time_reported_by_the_api_is_used_if_it_fits_the_polls(self, reported: float, believed: bool):
        planner = PollPlanner(CREW)
        planner.observe_poll(tracked(age=20.0), NOW + 10.0, ended=True, reported=reported)
        [run_time_stats] = planner.take_unsaved()
        assert ((run_time_stats.earliest, run_time_stats.latest) == (reported, reported)) is believed

    def test_the_end_announced_by_a_webhook_is_now(self):
        planner = PollPlanner(CREW)
        planner.observe_poll(tracked(age=20.0), NOW + 10.0, ended=True, completion_signalled=True)
        [run_time_stats] = planner.take_unsaved()
        assert (run_time_stats.earliest, run_time_stats.latest) == (30.0, 30.0)

    @pytest.mark.parametrize("unknown", ["began_at", "seen_at"])
    def test_a_run_of_unknown_age_teaches_nothing(self, unknown: str):
        planner = PollPlanner(CREW)
        lost = replace(tracked(), **{unknown: None})  # type: ignore[arg-type]  # one of its two clocks
        planner.observe_poll(lost, NOW, ended=True)
        assert planner.take_unsaved() == []

    def test_the_age_at_which_each_task_ended_is_recorded(self):
        planner = PollPlanner(CREW)
        before = tracked(age=20.0, task_marks=((1, NOW - 12.0), (2, NOW - 4.0)))
        planner.observe_poll(before, NOW, ended=True, completion_signalled=True)
        assert planner.take_unsaved()[0].task_marks == ((1, 8.0), (2, 16.0))


class TestTasks:
    """Where the API reports finished tasks, each one is a new start."""

    def three(self) -> PollPlanner:
        rng = Random(3)
        planner = PollPlanner(CREW)
        for number in range(100):
            first, second, third = (rng.uniform(10.0, 50.0) for _ in range(3))
            took, task_marks = first + second + third, ((1, first), (2, first + second))
            planner.add([RunTime(str(number), "crew", float(number), took, took, task_marks)])
        return planner

    def test_after_the_second_to_last_task_the_last_one_determines_the_end(self):
        done = tracked(age=100.0, tasks_done=2, task_marks=((1, NOW - 60.0), (2, NOW)))
        assert 5.0 < self.three().pause(done, NOW) < 30.0

    def test_an_unfinished_task_postpones_the_end(self):
        planner = self.three()
        on_its_way = tracked(age=120.0, task_marks=((1, NOW - 90.0),), tasks_done=1)
        assert planner.pause(on_its_way, NOW) > 8.0
        assert planner.pause(replace(on_its_way, seen_at=None), NOW) < 8.0

    def test_a_rare_task_count_is_ignored(self):
        planner = self.three()
        assert planner.pause(tracked(task_marks=((7, NOW),), tasks_done=7), NOW) == planner.pause(tracked(), NOW)

    def test_too_few_runs_with_tasks_teach_nothing_about_tasks(self):
        planner = taught(SIXTY)
        planner.add([RunTime("one", "crew", 1e3, 60.0, 60.0, ((1, 30.0),))])
        plain = planner.pause(tracked(), NOW)
        assert planner.pause(tracked(task_marks=((1, NOW),), tasks_done=1), NOW) == plain


class TestChange:
    """A crew whose run times have changed."""

    def test_runs_that_outlive_all_others_reduce_the_weight_of_the_past(self):
        planner = taught(SIXTY)
        planner.pause(tracked(), NOW)
        polls = [planner.observe_poll(tracked(age=58.0), NOW + 10.0, ended=False) for _ in range(40)]
        assert polls.count(True) == 1
        assert planner.run_time_stats() is None
        assert planner.pause(tracked(), NOW) > 0.0

    def test_run_times_before_the_change_are_not_added_again(self):
        planner = self.changed()
        planner.add(run_times(SIXTY))
        assert planner.run_time_stats() is None

    def test_after_a_change_earlier_run_times_are_scaled_to_fit(self):
        planner = self.changed()
        planner.add(RunTime(f"new-{n}", "crew", NOW + n, 115.0 + 2 * n, 115.0 + 2 * n) for n in range(MIN_RUNS))
        assert 80.0 < planner.pause(tracked(), NOW + 100.0) + 100.0 < 125.0

    def test_one_very_late_run_does_not_postpone_the_polls_of_others(self):
        planner = self.changed()
        planner.add([RunTime("new", "crew", NOW + 1800.0, 1780.0, 1800.0)])
        late = NOW + 1900.0
        assert planner.pause(tracked(began_at=late, seen_at=late), late) < 70.0

    def test_with_enough_new_runs_earlier_run_times_are_dropped(self):
        planner = self.changed()
        planner.add(RunTime(f"new-{n}", "crew", NOW + n, 30.0 + n / 10, 30.0 + n / 10) for n in range(120))
        late = NOW + 200.0
        assert planner.pause(tracked(began_at=late, seen_at=late), late) < 40.0

    def changed(self) -> PollPlanner:
        planner = taught(SIXTY)
        planner.pause(tracked(), NOW)
        while not planner.observe_poll(tracked(age=100.0), NOW + 20.0, ended=False):
            pass
        return planner

    def test_a_second_change_soon_after_keeps_the_longer_past(self):
        planner = self.changed()
        planner.add(RunTime(f"new-{n}", "crew", NOW + 30 + n, 120.0 + n / 10, 120.0 + n / 10) for n in range(30))
        planner.pause(tracked(), NOW + 100.0)
        while not planner.observe_poll(tracked(age=300.0), NOW + 200.0, ended=False):
            pass
        planner.add([RunTime("outlier", "crew", NOW + 2000.0, 1780.0, 1800.0)])
        late = NOW + 2100.0
        assert planner.pause(tracked(began_at=late, seen_at=late), late) < 40.0  # with the shorter past, 53

    def test_no_drift_is_reported_for_a_crew_with_few_runs(self):
        planner = taught([60.0] * 10)
        assert not planner.observe_poll(tracked(age=60.0), NOW + 100.0, ended=False)
        planner.pause(tracked(), NOW)
        assert not any(planner.observe_poll(tracked(age=60.0), NOW + 100.0, ended=False) for _ in range(100))

    def test_a_run_without_an_age_is_ignored(self):
        planner = taught(SIXTY)
        planner.pause(tracked(), NOW)
        assert not planner.observe_poll(tracked(began_at=None), NOW, ended=False)
