"""Executions: when each starts and ends and how, all settled at the kickoff.

Because the whole life of an execution is known from its first moment, nothing has to happen later: no timer, no task.
What can be seen of it is computed from the clock when somebody looks.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

from bridge.sandbox.controls import PREFIX, Controls
from bridge.sandbox.settings import SandboxSettings

FAILURE = "ValueError: the sandbox let this execution fail"

_MENTIONED = 200  # characters of an input that the result repeats


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution. Moments are epoch seconds; `failure` is the exception text of one that ends badly, else None."""

    kickoff_id: str
    inputs: Mapping[str, object]
    meta: object
    starts_at: float
    ends_at: float
    failure: str | None = None
    result_json: Mapping[str, object] | None = None

    def over(self, now: float) -> bool:
        """Say whether it has ended."""
        return now >= self.ends_at

    def share(self, now: float) -> float:
        """Return the part of its run time that has passed, from 0 to 1."""
        if self.over(now):
            return 1.0
        return max(0.0, (now - self.starts_at) / (self.ends_at - self.starts_at))

    def topic(self) -> str | None:
        """Return `name: value` of the first input that is the caller's own, or None without any.

        A crew writes inputs of any type into its prompts with `str()` (crew API contract 3.4).
        """
        own = (f"{name}: {value}" for name, value in self.inputs.items() if not name.startswith(PREFIX))
        return next(own, "")[:_MENTIONED] or None


class Places:
    """The workers of a deployment: who is free when. Excess executions queue in order (crew API contract 8)."""

    def __init__(self, workers: int | None, busy_until: Iterable[float] = ()) -> None:
        self._workers = workers
        self._free_at = heapq.nlargest(workers, busy_until) if workers else []
        heapq.heapify(self._free_at)

    def take(self, now: float, seconds: float) -> float:
        """Take the place that is free first, for so many seconds, and return the moment when the work starts."""
        if self._workers is None:
            return now
        all_busy = len(self._free_at) == self._workers
        starts_at = max(now, heapq.heappop(self._free_at)) if all_busy else now
        heapq.heappush(self._free_at, starts_at + seconds)
        return starts_at


class Planner:
    """Settles the life of new executions from the settings, the caller's controls and seeded dice."""

    def __init__(self, settings: SandboxSettings, busy_until: Iterable[float] = ()) -> None:
        self._settings = settings
        self._places = Places(settings.workers, busy_until)

    def plan(
        self, kickoff_id: str, number: int, inputs: Mapping[str, object], meta: object, controls: Controls, now: float
    ) -> Execution:
        """Return the execution of the kickoff with this number; its dice depend on the seed and the number alone."""
        dice = Random(f"{self._settings.seed}:{number}")
        # Both are drawn always, so that fixing one leaves the other as it was.
        seconds, fails = self._settings.run_time.draw(dice), dice.random() < self._settings.failure_rate
        if controls.seconds is not None:
            seconds = controls.seconds
        if controls.outcome is not None:
            fails = controls.outcome == "failure"
        starts_at = self._places.take(now, seconds)
        failure = FAILURE if fails else None
        return Execution(kickoff_id, inputs, meta, starts_at, starts_at + seconds, failure, controls.result_json)
