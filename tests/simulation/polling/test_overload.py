"""Lag under overload: polls beyond the request rate are spread, and the likeliest ends come first.

Many runs of one crew in virtual time, with the real rate limiter, poll queue, and planner.
"""

from dataclasses import replace
from functools import partial
from random import Random
from statistics import mean

from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling import PollPlanner, PollQueue
from bridge.core.runs.model import RunTime, TrackedRun

START = 1_000_000.0
POLICY = CrewPolicy(poll_min_interval=1.0, poll_max_interval=60.0)
SECONDS = [50.0 + n / 10 for n in range(200)]


def taught() -> PollPlanner:
    planner = PollPlanner(POLICY)
    planner.add(RunTime(f"past-{n}", "research", float(n), took, took) for n, took in enumerate(SECONDS))
    return planner


class Crew:
    """`ends` per run; a poll finds a run ended from then on."""

    def __init__(self, runs: int, per_second: float, *, ranked: bool = True) -> None:
        rng = Random(7)
        self.planner, self.rate_limiter, self.queue = taught(), RateLimiter(per_second), PollQueue()
        self.ranked, self.lags, self.polls = ranked, list[float](), list[float]()
        self.ends = {}
        for number in range(runs):
            began = START + rng.uniform(0.0, 60.0)
            self.ends[f"run-{number}"] = began + rng.choice(SECONDS)
            tracked = TrackedRun(
                f"run-{number}", "research", f"k-{number}", 3600.0, began, began_at=began, seen_at=began
            )
            self.queue.put(tracked, began + self.planner.pause(tracked, began))

    def step(self, now: float) -> None:
        chance = partial(self.planner.chance_ended, now=now) if self.ranked else None
        limit = self.rate_limiter.acquire_for_polls(now, min(128, self.queue.due(now)))
        for tracked in self.queue.take_due(now, limit, chance):
            self.polls.append(now)
            if now >= self.ends[tracked.run_id]:
                self.lags.append(now - self.ends[tracked.run_id])
            else:
                seen = replace(tracked, polls=tracked.polls + 1, alive_at=now, seen_at=now, started_at=tracked.began_at)
                self.queue.put(seen, self.planner.next_poll_at(seen, now))
        self.rate_limiter.on_response(now)

    def until_all_have_ended(self) -> float:
        now = START
        while self.queue:
            now += 0.05
            self.step(now)
        return mean(self.lags)


def test_polls_beyond_the_rate_are_spread_and_none_is_lost():
    crew = Crew(300, per_second=10.0)
    crew.until_all_have_ended()
    assert len(crew.lags) == 300
    busiest = max(sum(at <= poll < at + 1.0 for poll in crew.polls) for at in crew.polls)
    assert busiest <= 12


def test_likeliest_first_sees_ends_sooner_than_longest_overdue_first():
    assert Crew(300, 10.0).until_all_have_ended() < 0.8 * Crew(300, 10.0, ranked=False).until_all_have_ended()
