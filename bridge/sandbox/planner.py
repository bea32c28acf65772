"""Plan each execution at its kickoff: when it starts, when it ends, and its outcome.

Because the schedule is fixed at the kickoff, an execution needs no timer and no task.
"""

import heapq
from collections.abc import Iterable, Mapping
from random import Random

from bridge.sandbox.controls import Controls
from bridge.sandbox.execution import Execution
from bridge.sandbox.settings import SandboxSettings

FAILURE = "ValueError: the sandbox let this execution fail"


class Slots:
    """The workers of a deployment; keeps when each is free. Excess executions queue in order (crew API contract 8).

    Slots follow the plan: an execution that waits for a human or is stopped neither holds its slot longer nor frees it
    earlier.
    """

    def __init__(self, workers: int | None, busy_until: Iterable[float] = ()) -> None:
        self._workers = workers
        self._free_at = heapq.nlargest(workers, busy_until) if workers else []
        heapq.heapify(self._free_at)

    def reserve(self, now: float, seconds: float) -> float:
        """Reserve the first free slot for `seconds`, and return the time when the work starts."""
        if self._workers is None:
            return now
        all_busy = len(self._free_at) == self._workers
        starts_at = max(now, heapq.heappop(self._free_at)) if all_busy else now
        heapq.heappush(self._free_at, starts_at + seconds)
        return starts_at


class Planner:
    """Plans executions from the settings, the caller's controls, and a seeded RNG; keeps the slots."""

    def __init__(self, settings: SandboxSettings, busy_until: Iterable[float] = ()) -> None:
        self._settings = settings
        self._slots = Slots(settings.workers, busy_until)

    def plan(
        self, kickoff_id: str, number: int, inputs: Mapping[str, object], meta: object, controls: Controls, now: float
    ) -> Execution:
        """Return the execution of the kickoff with this number; its RNG depends only on the seed and the number."""
        rng = Random(f"{self._settings.seed}:{number}")
        # Always draw both, so that fixing one does not change the other.
        seconds, fails = self._settings.run_time.draw(rng), rng.random() < self._settings.failure_rate
        if controls.seconds is not None:
            seconds = controls.seconds
        if controls.outcome is not None or controls.error is not None:
            fails = controls.outcome in {"failure", None}
        asked = controls.human_questions
        starts_at = self._slots.reserve(now, seconds)
        return Execution(
            kickoff_id,
            inputs,
            meta,
            starts_at,
            starts_at + seconds,
            failure=(controls.error or FAILURE) if fails else None,
            result=controls.result,
            result_json=controls.result_json,
            result_bytes=controls.result_bytes,
            unnamed_tasks=controls.unnamed_tasks,
            questions=self._settings.human_questions if asked is None else asked,
            revoked=controls.outcome == "revoked",
        )
