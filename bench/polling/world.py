"""Simulated crews, and their runs tracked by the real policy code: `core.human_input`, `core.polling`.

Standard library only, so that the unit tests can check a part of what docs/polling.md claims.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random
from statistics import NormalDist

from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import StatusResponse, read_status
from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling import PollPlanner
from bridge.core.runs.model import TrackedRun
from bridge.core.runs.observation import observe

Quantile = Callable[[float], float]
"""The run time in seconds below which a fraction of the runs lies, between 0 and 1, both excluded."""

LONGEST = 3600.0  # seconds; the deadline of the crews
_NORMAL = NormalDist().inv_cdf


def _bimodal(fraction: float) -> float:
    low, within = (10.0, fraction / 0.6) if fraction < 0.6 else (300.0, (fraction - 0.6) / 0.4)
    return low * math.exp(0.25 * _NORMAL(max(within, 1e-9)))


CREWS: dict[str, Quantile] = {
    "lognormal": lambda fraction: min(60.0 * math.exp(0.8 * _NORMAL(fraction)), LONGEST),
    "bimodal": _bimodal,
    "Pareto": lambda fraction: min(20.0 * (1.0 - fraction) ** (-1 / 1.5), LONGEST),
    "uniform": lambda fraction: 10.0 + 110.0 * fraction,
    "tight": lambda fraction: 60.0 * math.exp(0.15 * _NORMAL(fraction)),
    "exponential": lambda fraction: min(-60.0 * math.log1p(-fraction), LONGEST),
}
"""The crews of the study: 60 s, sigma 0.8; 10 s or 300 s; alpha 1.5; 10 to 120 s; 60 s, sigma 0.15; 60 s on average."""

POLICY = CrewPolicy(deadline=2 * LONGEST)

DIALECTS: dict[str, Callable[[int, int], dict[str, object]]] = {
    "live": lambda done, tasks: {"state": "RUNNING", "progress": {"unit": "task", "completed": done, "total": tasks}},
    "published": lambda done, tasks: {
        "status": "running", "current_task": "a task", "progress": {"completed_tasks": done, "total_tasks": tasks},
    },
    "live, crewai up to 1.15.21": lambda *_: {"state": "RUNNING", "progress": None},
    "status only": lambda *_: {"status": "RUNNING"},
}  # fmt: skip
"""The status of an execution in progress, from the number of finished tasks and of all."""


def draw(crew: str, rng: Random) -> float:
    """One run time of a crew in seconds."""
    return CREWS[crew](min(max(rng.random(), 1e-9), 1.0 - 1e-9))


def even_shares(crew: str, number: int) -> list[float]:
    """Run times, this many, that represent all runs of a crew without chance, the shortest first."""
    return [CREWS[crew]((index + 0.5) / number) for index in range(number)]


@dataclass(frozen=True, slots=True)
class Followed:
    """The cost of tracking one run to its end: polls, and seconds from its end until it was noticed."""

    polls: int
    lag: float


class Follower:
    """Tracks runs one after the other, and learns from its polls, as the bridge does.

    `dialect`: the form of the status. `changes`: the number of reported changes of the crew.
    """

    def __init__(self, policy: CrewPolicy = POLICY, dialect: str = "live") -> None:
        self.policy = policy
        self._status = DIALECTS[dialect]
        self.planner = PollPlanner(policy)
        self.changes = 0
        self._now = 0.0
        self._ids = count()

    def track(self, run_time: float, done_at: tuple[float, ...] = (), tasks: int = 0) -> Followed:
        """One run; `done_at`: the ages at which its tasks end, if the dialect reports them."""
        began, tracked = self._now, self._begin()
        while True:
            polled_at = self._next_poll(tracked)
            self._now, ended = polled_at, polled_at - began >= run_time
            self.changes += self.planner.observe_poll(tracked, polled_at, ended=ended)
            if ended:
                return Followed(tracked.polls + 1, polled_at - began - run_time)
            response = self._response(polled_at - began, tasks, done_at)
            tracked = observe(tracked, response, self.policy, polled_at).tracked

    def planned_ages(self, until: float, done_at: tuple[float, ...] = (), tasks: int = 0) -> list[float]:
        """The ages at which a run would be polled that does not end before `until`; nothing is learned from it."""
        began, tracked = self._now, self._begin()
        ages: list[float] = []
        while not ages or ages[-1] < until:
            self._now = self._next_poll(tracked)
            ages.append(self._now - began)
            response = self._response(ages[-1], tasks, done_at)
            tracked = observe(tracked, response, self.policy, self._now).tracked
        self._now = began
        return ages

    def _begin(self) -> TrackedRun:
        now = self._now
        return TrackedRun(f"run-{next(self._ids)}", "crew", "k", self.policy.deadline, now, began_at=now, seen_at=now)

    def _next_poll(self, tracked: TrackedRun) -> float:
        return self.planner.next_poll_at(tracked, self._now)

    def _response(self, age: float, tasks: int, done_at: tuple[float, ...]) -> StatusResponse:
        body = self._status(sum(at <= age for at in done_at), tasks) if tasks else {"state": "RUNNING"}
        return read_status(Reply(200, json.dumps(body).encode()))


@dataclass(frozen=True, slots=True)
class Cost:
    """Polls per run, and mean lag in seconds."""

    polls: float
    lag: float


def cost(ages: list[float], run_times: list[float]) -> Cost:
    """The cost of polls at these ages, the last of them not before any end; `run_times` sorted."""
    polls, lag, index = 0, 0.0, 0
    for run_time in run_times:
        while ages[index] < run_time:
            index += 1
        polls += index + 1
        lag += ages[index] - run_time
    return Cost(polls / len(run_times), lag / len(run_times))


def even(interval: float, run_times: list[float]) -> Cost:
    """The cost of polls at an even interval."""
    polls = [math.ceil(run_time / interval) for run_time in run_times]
    lag = sum(number * interval for number in polls) - sum(run_times)
    return Cost(sum(polls) / len(polls), lag / len(polls))


def even_lag(run_times: list[float], polls: float) -> float:
    """The mean lag in seconds of even polls that cost this many polls per run."""
    low, high = 1e-3, max(run_times) * 2
    for _ in range(40):
        interval = math.sqrt(low * high)
        if even(interval, run_times).polls > polls:
            low = interval
        else:
            high = interval
    return even(high, run_times).lag


def gain(paid: Cost, run_times: list[float]) -> float:
    """The lag of even polls at the same cost, divided by this lag; above 1, it is better than even polls."""
    return even_lag(run_times, paid.polls) / paid.lag
