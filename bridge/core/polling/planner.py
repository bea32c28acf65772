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

from bridge.core import jitter
from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling.distribution import Estimate, Span, estimate, likeliest_scale
from bridge.core.polling.drift import Drift
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
_STEADY_INTERVAL = 5.0  # seconds between polls while a crew's run times are unknown
_DEADLINE_FRACTION = 0.1  # longest fallback interval, as a fraction of the deadline
_QUANTILES = 20  # parts of the sample in its summary
_JITTER = 0.05  # of an interval, so that runs started together are not always polled together


@dataclass(frozen=True, slots=True)
class RunTimeStats:
    """A summary of a crew's run times, in seconds; `quantiles`: within which 0, 5, 10, … 100 % of the runs ended."""

    count: int
    median: float
    p90: float
    quantiles: tuple[float, ...]


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
        self._interval = self._within_limits(_STEADY_INTERVAL)
        self._new_run_times = 0
        self._planned_at = -math.inf
        self.changed_at = -math.inf
        self._drift = Drift()

    def use(self, policy: CrewPolicy) -> None:
        """Plan by another policy from now on, from the same run times."""
        self._policy = policy
        self._interval = self._within_limits(self._interval)
        self._new_run_times, self._planned_at = len(self._sample), -math.inf

    def next_poll_at(
        self, tracked: TrackedRun, now: float, after: float | None = None, *, at_fallback_interval: bool = False
    ) -> float:
        """Return when to poll again, without regard to questions and webhooks.

        `after`: the wait in seconds that the API asked for. `at_fallback_interval`: webhooks will most likely report
        the end, so polls only cover lost webhooks.
        """
        pause, longest = self.pause(tracked, now), self._policy.poll_max_interval
        interval = self._fallback_interval(tracked) if at_fallback_interval else pause
        if tracked.errors:
            interval = min(interval * 2.0 ** min(tracked.errors, 10), max(longest, interval))
        due = now + max(interval * jitter.factor(tracked.run_id, tracked.polls, _JITTER), after or 0.0)
        if tracked.deadline_at is not None and now < tracked.deadline_at < due:
            return tracked.deadline_at  # the last poll is made when the deadline passes, not an interval later
        return due

    def spread_first_poll(self, run_id: str, now: float) -> float:
        """Return when to poll a run that was claimed together with others: within the steady interval."""
        return jitter.spread(run_id, now, self._within_limits(_STEADY_INTERVAL))

    def pause(self, tracked: TrackedRun, now: float) -> float:
        """Return the seconds until the next poll of a run without errors, within the limits of the crew."""
        return self._within_limits(self._planned_pause(tracked, now))

    def _planned_pause(self, tracked: TrackedRun, now: float) -> float:
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

    def observe_poll(
        self,
        before: TrackedRun,
        polled_at: float,
        *,
        ended: bool,
        reported: float | None = None,
        completion_signalled: bool = False,
    ) -> bool:
        """Learn from a poll whether a run has ended; return whether a change of the crew's run times is detected.

        `before`: the run as tracked until this poll. `reported`: the run time in seconds that the API reported.
        `completion_signalled`: a webhook triggered the poll immediately, so the run has just ended.
        """
        if before.began_at is None or before.seen_at is None:
            return False
        changed = self._detect_change(before, polled_at, ended=ended)
        if ended:
            earliest, latest = before.seen_at - before.began_at, polled_at - before.began_at
            if reported is not None and earliest - _REPORTED_RESOLUTION <= reported <= latest + _REPORTED_RESOLUTION:
                earliest = latest = reported
            elif completion_signalled:
                earliest = latest
            task_marks = tuple((done, at - before.began_at) for done, at in before.task_marks[:_MAX_TASK_MARKS])
            run_time = RunTime(before.run_id, before.crew, polled_at, earliest, latest, task_marks)
            self._unsaved.append(run_time)
            self.add([run_time])
        return changed

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
        quantiles = tuple(times[round(part * (len(times) - 1) / _QUANTILES)] for part in range(_QUANTILES + 1))
        return RunTimeStats(len(times), times[len(times) // 2], times[len(times) * 9 // 10], quantiles)

    def _detect_change(self, before: TrackedRun, polled_at: float, *, ended: bool) -> bool:
        """Test the estimate with a poll; if run times have changed, discard those from before the change."""
        if not self._stages or len(self._sample) < _MIN_RUNS_FOR_DRIFT:
            return False
        if not self._drift.observe(self.chance_ended(before, polled_at), polled_at, ended=ended):
            return False
        self._discard_before(self._drift.began_at)
        return True

    def _within_limits(self, pause: float) -> float:
        """Clamp a pause to `poll.min_interval` and `poll.max_interval` of the crew."""
        return min(max(pause, self._policy.poll_min_interval), self._policy.poll_max_interval)

    def _fallback_interval(self, tracked: TrackedRun) -> float:
        """Return the longest interval of the crew, shortened where a deadline would be detected much too late."""
        interval = min(self._policy.poll_max_interval, _DEADLINE_FRACTION * tracked.deadline)
        return max(self._within_limits(_STEADY_INTERVAL), interval)

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
            polls = max(self._policy.poll_per_run - 0.5, 0.5)  # a run ends halfway through a pause
            self._interval = self._within_limits(mean / polls)
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
