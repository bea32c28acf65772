"""Keeps a crew's past run times, and plans the next poll of each of its runs from them.

A run's age counts from its POST, or from the last poll that found it still queued. Once it waited for a human it has
none, and nothing is learned from it. Where the API tells how many tasks are done, each task done is a new beginning:
then the time that runs take from there on is what counts.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.polling.distribution import Estimate, Span, estimate, likeliest_scale
from bridge.core.polling.drift import Drift
from bridge.core.polling.intervals import steady_interval
from bridge.core.polling.optimizer import Plan, plan_polls, plan_polls_at_price
from bridge.core.runs.model import CrewPolicy, RunTime, TrackedRun

MAX_RUN_TIMES = 256  # runs per crew
FEW = 6  # runs; fewer are only good for a mean
_RENEWED = 0.1  # plans are made anew when so large a part of the sample is new,
_NOT_SOONER = 1.0  # and not sooner than so many seconds after the last time
_ENOUGH_TO_DOUBT = 20  # runs; with fewer, a crew cannot be said to have changed
_FORMER_WORTH = 50.0  # runs that the times from before a change are worth, stretched to fit; fading as new ones come
_TOLD_APART = 12  # numbers of tasks done, each with a plan of its own
_ROUNDED = 0.1  # seconds to which the API rounds run times
_STALE = 0.1  # of the age of a run of which nothing is known: its polls may be so far apart


@dataclass(frozen=True, slots=True)
class RunTimeStats:
    """What is known of a crew's run times, in seconds."""

    count: int
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class _Known:
    """How long runs take from one point on, and where polls belong from there."""

    estimate: Estimate
    plan: Plan


class PollPlanner:
    """The run times of one crew's last runs, and the plans made from them.

    `changed_at`: when the crew last changed; run times from before it no longer count.
    """

    def __init__(self, policy: CrewPolicy) -> None:
        self._policy = policy
        self._sample: list[RunTime] = []
        self._ids: set[str] = set()
        self._unsaved: deque[RunTime] = deque(maxlen=MAX_RUN_TIMES)
        self._former: list[Span] = []
        self._known: dict[int, _Known] = {}
        self._interval = steady_interval(policy)
        self._new = 0
        self._planned_at = -math.inf
        self.changed_at = -math.inf
        self._drift = Drift()

    def pause(self, tracked: TrackedRun, now: float) -> float:
        """Return the seconds from now until the next poll of a healthy run."""
        self._renew(now)
        if tracked.began_at is None or not self._known:
            return self._steady_pause(tracked, now)
        done, since = self._stage(tracked)
        due = since + self._known[done].plan.next_age(max(now - since, 0.0))
        ahead = self._known.get(done + 1)
        if ahead is not None and tracked.tasks_done == done and tracked.seen_at is not None:
            # one more task must be done before it can be over, and that was not so at the last poll
            due = max(due, tracked.seen_at + ahead.plan.next_age(0.0))
        return due - now

    def chance_over(self, tracked: TrackedRun, now: float) -> float:
        """How likely it is that this run, which was not over when it was last seen, is over by now."""
        if tracked.began_at is None or tracked.seen_at is None or not self._known:
            unseen_for = max(now - tracked.alive_at, 0.0)
            return unseen_for / (unseen_for + self._interval)
        done, since = self._stage(tracked)
        times = self._known[done].estimate
        then, over = times.over_at(tracked.seen_at - since), times.over_at(now - since)
        return (over - then) / (1.0 - then)

    def observe_poll(self, before: TrackedRun, asked_at: float, *, over: bool) -> bool:
        """Record that a poll found a run over, or not; return whether the crew appears to have changed."""
        if before.began_at is None or before.seen_at is None or not self._known:
            return False
        if len(self._sample) < _ENOUGH_TO_DOUBT:
            return False
        done, since = self._stage(before)
        times = self._known[done].estimate
        then, now = times.over_at(before.seen_at - since), times.over_at(asked_at - since)
        if not self._drift.saw((now - then) / (1.0 - then), asked_at, over=over):
            return False
        self._forget_before(self._drift.began_at)
        return True

    def on_run_ended(
        self, tracked: TrackedRun, asked_at: float, *, reported: float | None = None, completion_signalled: bool = False
    ) -> None:
        """Record that a poll at `asked_at` found this run over; `tracked` is what was known before it.

        `reported`: the run time in seconds by the API's own account. `completion_signalled`: a webhook triggered the
        poll at once.
        """
        if tracked.began_at is None or tracked.seen_at is None:
            return
        earliest, latest = tracked.seen_at - tracked.began_at, asked_at - tracked.began_at
        if reported is not None and earliest - _ROUNDED <= reported <= latest + _ROUNDED:
            earliest = latest = reported
        elif completion_signalled:
            earliest = latest
        task_marks = tuple((done, at - tracked.began_at) for done, at in tracked.task_marks[:_TOLD_APART])
        run_time = RunTime(tracked.run_id, tracked.crew, asked_at, earliest, latest, task_marks)
        self._unsaved.append(run_time)
        self.add([run_time])

    def add(self, run_times: Iterable[RunTime]) -> None:
        """Take in run times, in any order; those known already, or from before the crew changed, are passed over."""
        for run_time in run_times:
            if run_time.run_id in self._ids or run_time.ended_at < self.changed_at:
                continue
            insort(self._sample, run_time, key=lambda known: known.ended_at)
            self._ids.add(run_time.run_id)
            self._new += 1
        for forgotten in self._sample[:-MAX_RUN_TIMES]:
            self._ids.discard(forgotten.run_id)
        del self._sample[:-MAX_RUN_TIMES]

    def unsaved(self) -> list[RunTime]:
        """The run times learned since this was last asked, as many as are worth keeping."""
        unsaved = list(self._unsaved)
        self._unsaved.clear()
        return unsaved

    def run_time_stats(self) -> RunTimeStats | None:
        """What is known, to be shown; None: nothing yet."""
        times = sorted((run_time.earliest + run_time.latest) / 2 for run_time in self._sample)
        if not times:
            return None
        return RunTimeStats(len(times), times[len(times) // 2], times[len(times) * 9 // 10])

    def _steady_pause(self, tracked: TrackedRun, now: float) -> float:
        """Before enough is known: even polls, rarer for a run that is older than they were meant for."""
        age = 0.0 if tracked.began_at is None else now - tracked.began_at
        return max(self._interval, _STALE * age)

    def _stage(self, tracked: TrackedRun) -> tuple[int, float]:
        """The number of tasks done that a plan is known for, and since when they were."""
        assert tracked.began_at is not None
        if tracked.task_marks and tracked.task_marks[-1][0] in self._known:
            return tracked.task_marks[-1]
        return 0, tracked.began_at

    def _renew(self, now: float) -> None:
        """Make the plans anew when there is enough news for it."""
        if self._new < max(1.0, _RENEWED * len(self._sample)) or now - self._planned_at < _NOT_SOONER:
            return
        self._new, self._planned_at = 0, now
        spans = [(run_time.earliest, run_time.latest) for run_time in self._sample]
        if len(spans) < FEW and not self._former:
            mean = sum(earliest + latest for earliest, latest in spans) / 2 / len(spans)
            self._interval = steady_interval(self._policy, mean)
        else:
            self._known = self._all_known(spans)

    def _all_known(self, spans: list[Span]) -> dict[int, _Known]:
        """What is known from a run's start on, and from each number of tasks done; a poll has one price in all."""
        shortest, longest = self._policy.poll_min_interval, self._policy.poll_max_interval
        whole = self._whole(spans)
        plan = plan_polls(whole, self._policy.poll_per_run, shortest, longest)
        known = {0: _Known(whole, plan)}
        left: dict[int, list[Span]] = {}
        for run_time in self._sample:
            for done, since in run_time.task_marks:
                rest = max(run_time.earliest - since, 0.0), max(run_time.latest - since, 0.0)
                left.setdefault(done, []).append(rest)
        for done, rests in left.items():
            if len(rests) >= FEW:
                rest_of = estimate(rests)
                known[done] = _Known(rest_of, plan_polls_at_price(rest_of, plan.price, shortest, longest))
        return known

    def _whole(self, spans: list[Span]) -> Estimate:
        """Of whole runs; after a change helped by the times from before it, stretched to fit those since."""
        worth = min(_FORMER_WORTH, len(self._former), 2 * _FORMER_WORTH - len(spans))
        if worth <= 0:
            return estimate(spans)
        scale = likeliest_scale(estimate(self._former), spans)
        at_fallback_interval = [(scale * earliest, scale * latest) for earliest, latest in self._former]
        weights = [1.0] * len(spans) + [worth / len(at_fallback_interval)] * len(at_fallback_interval)
        return estimate([*spans, *at_fallback_interval], weights)

    def _forget_before(self, moment: float) -> None:
        """The crew has changed at that moment: what was learned before it still tells the shape, but not the length."""
        before = [(run_time.earliest, run_time.latest) for run_time in self._sample if run_time.ended_at < moment]
        kept = self._sample[len(before) :]
        if len(before) >= len(self._former):
            self._former = before
        self.changed_at = moment
        self._sample, self._ids = kept, {run_time.run_id for run_time in kept}
        self._known, self._drift, self._planned_at = {}, Drift(), -math.inf
        self._new = len(kept)
