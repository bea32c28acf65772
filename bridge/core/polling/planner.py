"""Learn a crew's run times, and plan the next poll of each of its runs from them.

A run's age counts from its POST, or from the last poll that found it still queued. A run that has waited for a human
has no age, and nothing is learned from it. If the API reports how many tasks are done, the age starts anew at each
task: the remaining run time is then estimated from there.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling.distribution import Estimate, Span, estimate, likeliest_scale
from bridge.core.polling.drift import Drift
from bridge.core.polling.intervals import steady_interval
from bridge.core.polling.optimizer import Plan, plan_polls, plan_polls_at_price
from bridge.core.runs.model import RunTime, TrackedRun

MAX_RUN_TIMES = 256  # runs per crew
MIN_RUNS = 6  # for an estimate; fewer yield only a mean
_REPLAN_FRACTION = 0.1  # plans are recomputed once this part of the sample is new,
_REPLAN_INTERVAL = 1.0  # at most once in so many seconds
_MIN_RUNS_FOR_DRIFT = 20  # with fewer, no change is detected
_FORMER_WEIGHT = 50.0  # runs; weight of the run times from before a change, rescaled; fades as new ones arrive
_MAX_TASK_MARKS = 12  # numbers of tasks done that have a plan
_REPORTED_RESOLUTION = 0.1  # seconds to which the API rounds run times
_STALE_FRACTION = 0.1  # of a run's age: its longest pause if nothing is known of its run time


@dataclass(frozen=True, slots=True)
class RunTimeStats:
    """A summary of a crew's run times, in seconds."""

    count: int
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class _StagePlan:
    """The estimated run time from one number of tasks done, and the plan for polls from there."""

    estimate: Estimate
    plan: Plan


class PollPlanner:
    """The run times of one crew's last runs, and the plans computed from them.

    `changed_at`: when the crew's run times last changed; earlier ones are not added.
    """

    def __init__(self, policy: CrewPolicy) -> None:
        self._policy = policy
        self._sample: list[RunTime] = []
        self._ids: set[str] = set()
        self._unsaved: deque[RunTime] = deque(maxlen=MAX_RUN_TIMES)
        self._former: list[Span] = []
        self._stages: dict[int, _StagePlan] = {}
        self._interval = steady_interval(policy)
        self._new_run_times = 0
        self._planned_at = -math.inf
        self.changed_at = -math.inf
        self._drift = Drift()

    def pause(self, tracked: TrackedRun, now: float) -> float:
        """Return the seconds until the next poll of a run without errors."""
        self._replan(now)
        if tracked.began_at is None or not self._stages:
            return self._steady_pause(tracked, now)
        done, since = self._stage(tracked)
        due = since + self._stages[done].plan.next_age(max(now - since, 0.0))
        next_stage = self._stages.get(done + 1)
        if next_stage is not None and tracked.tasks_done == done and tracked.seen_at is not None:
            # one more task must be done before the end, and it was not done at the last poll
            due = max(due, tracked.seen_at + next_stage.plan.next_age(0.0))
        return due - now

    def chance_ended(self, tracked: TrackedRun, now: float) -> float:
        """Return the probability that a run, which had not ended when last seen, has ended by now."""
        if tracked.began_at is None or tracked.seen_at is None or not self._stages:
            unseen_for = max(now - tracked.alive_at, 0.0)
            return unseen_for / (unseen_for + self._interval)
        done, since = self._stage(tracked)
        return self._stages[done].estimate.chance_ended(tracked.seen_at - since, now - since)

    def observe_poll(self, before: TrackedRun, polled_at: float, *, ended: bool) -> bool:
        """Record whether a poll found a run ended; return whether a change of the crew's run times is detected."""
        if before.began_at is None or before.seen_at is None or not self._stages:
            return False
        if len(self._sample) < _MIN_RUNS_FOR_DRIFT:
            return False
        done, since = self._stage(before)
        expected = self._stages[done].estimate.chance_ended(before.seen_at - since, polled_at - since)
        if not self._drift.observe(expected, polled_at, ended=ended):
            return False
        self._discard_before(self._drift.began_at)
        return True

    def on_run_ended(
        self,
        tracked: TrackedRun,
        polled_at: float,
        *,
        reported: float | None = None,
        completion_signalled: bool = False,
    ) -> None:
        """Record that a poll at `polled_at` found a run ended; `tracked` is its state before the poll.

        `reported`: the run time in seconds that the API reported. `completion_signalled`: a webhook triggered the poll
        immediately, so the run has just ended.
        """
        if tracked.began_at is None or tracked.seen_at is None:
            return
        earliest, latest = tracked.seen_at - tracked.began_at, polled_at - tracked.began_at
        if reported is not None and earliest - _REPORTED_RESOLUTION <= reported <= latest + _REPORTED_RESOLUTION:
            earliest = latest = reported
        elif completion_signalled:
            earliest = latest
        task_marks = tuple((done, at - tracked.began_at) for done, at in tracked.task_marks[:_MAX_TASK_MARKS])
        run_time = RunTime(tracked.run_id, tracked.crew, polled_at, earliest, latest, task_marks)
        self._unsaved.append(run_time)
        self.add([run_time])

    def add(self, run_times: Iterable[RunTime]) -> None:
        """Add run times in any order; those already known, or from before the last change, are ignored."""
        for run_time in run_times:
            if run_time.run_id in self._ids or run_time.ended_at < self.changed_at:
                continue
            insort(self._sample, run_time, key=lambda known: known.ended_at)
            self._ids.add(run_time.run_id)
            self._new_run_times += 1
        for oldest in self._sample[:-MAX_RUN_TIMES]:
            self._ids.discard(oldest.run_id)
        del self._sample[:-MAX_RUN_TIMES]

    def take_unsaved(self) -> list[RunTime]:
        """Return the run times recorded since the last call, at most `MAX_RUN_TIMES`."""
        unsaved = list(self._unsaved)
        self._unsaved.clear()
        return unsaved

    def run_time_stats(self) -> RunTimeStats | None:
        """Return a summary of the run times; None while there are none."""
        times = sorted((run_time.earliest + run_time.latest) / 2 for run_time in self._sample)
        if not times:
            return None
        return RunTimeStats(len(times), times[len(times) // 2], times[len(times) * 9 // 10])

    def _steady_pause(self, tracked: TrackedRun, now: float) -> float:
        """Return the pause while there is no plan: even polls, rarer for a run older than expected."""
        age = 0.0 if tracked.began_at is None else now - tracked.began_at
        return max(self._interval, _STALE_FRACTION * age)

    def _stage(self, tracked: TrackedRun) -> tuple[int, float]:
        """Return the number of tasks done for which there is a plan, and since when they were done."""
        assert tracked.began_at is not None
        if tracked.task_marks and tracked.task_marks[-1][0] in self._stages:
            return tracked.task_marks[-1]
        return 0, tracked.began_at

    def _replan(self, now: float) -> None:
        """Recompute the plans once enough new run times have been added."""
        due = self._new_run_times >= max(1.0, _REPLAN_FRACTION * len(self._sample))
        if not due or now - self._planned_at < _REPLAN_INTERVAL:
            return
        self._new_run_times, self._planned_at = 0, now
        spans = [(run_time.earliest, run_time.latest) for run_time in self._sample]
        if len(spans) < MIN_RUNS and not self._former:
            mean = sum(earliest + latest for earliest, latest in spans) / 2 / len(spans)
            self._interval = steady_interval(self._policy, mean)
        else:
            self._stages = self._plan_stages(spans)

    def _plan_stages(self, spans: list[Span]) -> dict[int, _StagePlan]:
        """Plan from the start of a run, and from each number of tasks done, with one price of a poll for all."""
        shortest, longest = self._policy.poll_min_interval, self._policy.poll_max_interval
        whole = self._estimate_whole_runs(spans)
        plan = plan_polls(whole, self._policy.poll_per_run, shortest, longest)
        stages = {0: _StagePlan(whole, plan)}
        remaining: dict[int, list[Span]] = {}
        for run_time in self._sample:
            for done, since in run_time.task_marks:
                span = max(run_time.earliest - since, 0.0), max(run_time.latest - since, 0.0)
                remaining.setdefault(done, []).append(span)
        for done, rest in remaining.items():
            if len(rest) >= MIN_RUNS:
                estimated = estimate(rest)
                stages[done] = _StagePlan(estimated, plan_polls_at_price(estimated, plan.price, shortest, longest))
        return stages

    def _estimate_whole_runs(self, spans: list[Span]) -> Estimate:
        """Estimate the run time; after a change, also from earlier run times, rescaled to fit those since."""
        weight = min(_FORMER_WEIGHT, len(self._former), 2 * _FORMER_WEIGHT - len(spans))
        if weight <= 0:
            return estimate(spans)
        scale = likeliest_scale(estimate(self._former), spans)
        rescaled = [(scale * earliest, scale * latest) for earliest, latest in self._former]
        weights = [1.0] * len(spans) + [weight / len(rescaled)] * len(rescaled)
        return estimate([*spans, *rescaled], weights)

    def _discard_before(self, changed_at: float) -> None:
        """Discard run times from before a change; they still indicate the shape of the distribution, not its scale."""
        before = [(run_time.earliest, run_time.latest) for run_time in self._sample if run_time.ended_at < changed_at]
        kept = self._sample[len(before) :]
        if len(before) >= len(self._former):
            self._former = before
        self.changed_at = changed_at
        self._sample, self._ids = kept, {run_time.run_id for run_time in kept}
        self._stages, self._drift, self._planned_at = {}, Drift(), -math.inf
        self._new_run_times = len(kept)
