"""Simulated crews, and runs of theirs followed by the product's own policy code: `lifecycle`, `learning`, `schedule`.

Standard library only, so that the unit tests can show a slice of what docs/polling.md claims.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

from bridge.core import lifecycle, schedule
from bridge.core.answers import Running, StatusAnswer, Succeeded
from bridge.core.learning import Learning
from bridge.core.model import CrewPolicy, Watch

Draw = Callable[[Random], float]
"""Gives one run time in seconds."""

LONGEST = 3600.0  # seconds; the crews' deadline

CREWS: dict[str, Draw] = {
    "lognormal": lambda dice: min(60.0 * math.exp(dice.gauss(0.0, 0.8)), LONGEST),
    "two humps": lambda dice: (10.0 if dice.random() < 0.6 else 300.0) * math.exp(dice.gauss(0.0, 0.25)),
    "pareto": lambda dice: min(20.0 * (1.0 - dice.random()) ** (-1 / 1.5), LONGEST),
    "uniform": lambda dice: dice.uniform(10.0, 120.0),
    "tight": lambda dice: 60.0 * math.exp(dice.gauss(0.0, 0.15)),
    "exponential": lambda dice: min(dice.expovariate(1 / 60.0), LONGEST),
}
"""The crews of the study: 60 s, sigma 0.8; 10 s or 300 s; alpha 1.5; 10 to 120 s; 60 s, sigma 0.15; 60 s on average."""

POLICY = CrewPolicy(deadline=2 * LONGEST)


@dataclass(frozen=True, slots=True)
class Followed:
    """What following one run to its end cost: looks, and seconds from its end until that was seen."""

    looks: int
    lag: float


class Follower:
    """Follows runs one after the other, and learns from what it sees, as the product does."""

    def __init__(self, policy: CrewPolicy = POLICY) -> None:
        self.policy = policy
        self.learning = Learning(policy)
        self._now = 0.0
        self._ids = count()

    def follow(
        self, run_time: float, tasks: int = 0, done_at: tuple[float, ...] = (), *, learn: bool = True
    ) -> Followed:
        """One run; `done_at`: the ages at which its tasks are done, if the API tells of them."""
        began = self._now
        watch = Watch(f"run-{next(self._ids)}", "crew", "k", self.policy.deadline, began, began_at=began, seen_at=began)
        while True:
            now = schedule.next_look(watch, self.policy, self._now, self.learning.pause(watch, self._now))
            self._now, over = now, now - began >= run_time
            answer = _answer(now - began, run_time, tasks, done_at)
            if learn:
                self.learning.looked(watch, now, over=over)
            if over:
                if learn:
                    self.learning.ended(watch, now)
                return Followed(watch.polls + 1, now - began - run_time)
            watch, _ = lifecycle.look(watch, answer, self.policy, now)


def _answer(age: float, run_time: float, tasks: int, done_at: tuple[float, ...]) -> StatusAnswer:
    if age >= run_time:
        return Succeeded("text")
    return Running({"completed": sum(at <= age for at in done_at), "total": tasks} if tasks else None)


def even_interval(run_times: list[float], looks: float) -> float:
    """The interval between even looks that costs so many looks per run."""
    low, high = 1e-3, max(run_times) * 2
    for _ in range(50):
        interval = math.sqrt(low * high)
        if sum(math.ceil(time / interval) for time in run_times) > looks * len(run_times):
            low = interval
        else:
            high = interval
    return high


def even_lag(run_times: list[float], looks: float) -> float:
    """The mean lag in seconds of even looks that cost so many looks per run."""
    interval = even_interval(run_times, looks)
    return sum(math.ceil(time / interval) * interval - time for time in run_times) / len(run_times)
