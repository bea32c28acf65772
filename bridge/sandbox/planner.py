"""The plan of each new execution: when it starts and ends and how, all settled at the kickoff.

Because the whole life of an execution is known from its first moment, nothing has to happen later: no timer, no task.
"""

import heapq
from collections.abc import Iterable, Mapping
from random import Random

from bridge.sandbox.controls import Controls
from bridge.sandbox.execution import Execution
from bridge.sandbox.settings import SandboxSettings

FAILURE = "ValueError: the sandbox let this execution fail"


class Places:
    """The workers of a deployment: who is free when. Excess executions queue in order (crew API contract 8).

    Places are given by the plan: one that waits for a human or is stopped neither keeps its place longer nor frees it
    earlier.
    """

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
        asked = controls.human_questions
        starts_at = self._places.take(now, seconds)
        return Execution(
            kickoff_id,
            inputs,
            meta,
            starts_at,
            starts_at + seconds,
            failure=FAILURE if fails else None,
            result=controls.result,
            result_json=controls.result_json,
            questions=self._settings.human_questions if asked is None else asked,
            revoked=controls.outcome == "revoked",
        )
