"""What this process keeps in memory of one crew's runs between steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.core.crew.responses import StatusResponse, Succeeded
from bridge.core.crew.webhooks import TasksDone, add_task, with_task_progress, with_webhook_result
from bridge.core.polling import PollQueue
from bridge.core.runs import timing, tracking
from bridge.core.runs.cache import RunCache
from bridge.core.runs.model import TRACKED_STATES, Run, TrackedRun
from bridge.core.values import replace

LATE_POLL_TICK = 0.3  # seconds between claims while executions of ended runs are polled at short intervals


@dataclass(frozen=True, slots=True)
class Known:
    """What this process knows about a tracked run besides its `TrackedRun`, most of it from crew webhooks.

    `outdated`: its next poll loads it first. `too_large`: its status was too large to be read.
    `completion_signalled_at`: when a webhook last reported that the execution has ended, or may have; `webhook_result`:
    the result that one reported and no status has confirmed. `state_id`: the id that the request has set for the state
    of its flow, whose questions name it.
    """

    outdated: bool = False
    too_large: bool = False
    webhook_seen: bool = False
    completion_signalled_at: float | None = None
    webhook_result: Succeeded | None = None
    tasks: TasksDone | None = None
    state_id: str | None = None

    @property
    def completion_signalled(self) -> bool:
        """Whether a webhook has signalled completion."""
        return self.completion_signalled_at is not None


NOTHING = Known()


class RunTracker:
    """Keeps the tracked runs, the time of each one's next poll, and what crew webhooks reported about them.

    * All of it may be lost at any moment: the store is authoritative, and the inbox keeps results of webhooks.
    * A run is tracked while it is in the poll queue or being polled. A poll takes it out of the queue and puts it
      back, or tracking ends.
    * `forget` removes everything about a run, even during its poll; the poll then cannot put it back. Nor can a poll of
      another execution than the one that is tracked by then.
    * A run written by anything but its poll is outdated: the next poll loads it first.
    """

    def __init__(self) -> None:
        self.queue = PollQueue()
        self._being_polled: dict[str, str] = {}
        """The execution that is polled, by run."""
        self._known: dict[str, Known] = {}
        self._written = RunCache()
        self._late_end_signalled_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self.queue) + len(self._being_polled)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self.queue or run_id in self._being_polled

    def known(self, run_id: str) -> Known:
        """Return what is known about a run."""
        return self._known.get(run_id, NOTHING)

    def _update(self, run_id: str, **changes: Any) -> None:
        self._known[run_id] = replace(self.known(run_id), **changes)

    # Polls --------------------------------------------------------------------------------------------------------

    def track(self, tracked: TrackedRun, due: float) -> None:
        """Track a run from now on; a poll in progress with an older `TrackedRun` cannot put that one back."""
        self._being_polled.pop(tracked.run_id, None)
        self.queue.put(tracked, due)

    def take_due(self, now: float, limit: int, chance: Callable[[TrackedRun], float]) -> list[TrackedRun]:
        """Take at most `limit` due runs out of the queue, to be polled now."""
        taken = self.queue.take_due(now, limit, chance)
        self._being_polled.update((tracked.run_id, tracked.kickoff_id) for tracked in taken)
        return taken

    def resume_polling(self, tracked: TrackedRun, due: float, *, outdated: bool = False) -> bool:
        """Put a polled run back, unless it has been forgotten; return whether its next poll is the first one due.

        `outdated`: its next poll loads it first.
        """
        if not self._is_being_polled(tracked):
            return False
        if outdated:
            self._update(tracked.run_id, outdated=True)
        return self.queue.put(tracked, due)

    def mark_too_large(self, run_id: str) -> bool:
        """Record that the status of a run is too large to be read; return whether that is new."""
        new = not self.known(run_id).too_large
        self._update(run_id, too_large=True)
        return new

    def poll_finished(self, tracked: TrackedRun) -> None:
        """Mark a run as no longer being polled."""
        if self._is_being_polled(tracked):
            del self._being_polled[tracked.run_id]

    def forget_polled(self, tracked: TrackedRun) -> None:
        """Forget a run after a poll that found it written by others, unless it is tracked again by now."""
        if self._is_being_polled(tracked):
            self.forget(tracked.run_id)

    def _is_being_polled(self, tracked: TrackedRun) -> bool:
        return self._being_polled.get(tracked.run_id) == tracked.kickoff_id

    def forget(self, run_id: str) -> None:
        """Remove everything about a run that has ended or has another owner; a poll in progress is its last."""
        self.queue.drop(run_id)
        self._written.pop(run_id)
        self._being_polled.pop(run_id, None)
        self._known.pop(run_id, None)

    def forget_everything(self) -> None:
        """Remove all tracked runs, because this process owns none of them any more."""
        self.queue.clear()
        self._written = RunCache()
        for by_run in (self._being_polled, self._known, self._late_end_signalled_at):
            by_run.clear()

    # Writes -------------------------------------------------------------------------------------------------------

    def mark_changed(self, run: Run) -> None:
        """Poll a run now, and load it first, because a step other than its poll has written it.

        A run without an owner that is not tracked here needs no mark: the process that claims it loads it.
        """
        if run.state in TRACKED_STATES and (run.owner is not None or run.run_id in self):
            self._update(run.run_id, outdated=True)
            self._written.pop(run.run_id)
            self.queue.expedite(run.run_id)

    def take_outdated(self, run_id: str) -> bool:
        """Return whether a run must be loaded before its poll, and clear the mark: later writes set it again."""
        if not self.known(run_id).outdated:
            return False
        self._update(run_id, outdated=False)
        return True

    def cache_written(self, run: Run) -> None:
        """Cache a run as it has just been written."""
        self._written.put(run)

    def take_cached(self, run_id: str) -> Run | None:
        """Return a run as this process last wrote it, if cached, and remove it, because it is about to be written."""
        return self._written.pop(run_id)

    # Crew webhooks ------------------------------------------------------------------------------------------------

    def mark_webhook_seen(self, run_id: str) -> None:
        """Record that a webhook about a run has arrived."""
        self._update(run_id, webhook_seen=True)

    def signal_completion(self, run_id: str, webhook_result: Succeeded | None, now: float) -> None:
        """Record that a webhook reported that an execution has ended, or may have, possibly with its result."""
        result = webhook_result or self.known(run_id).webhook_result
        self._update(run_id, completion_signalled_at=now, webhook_result=result)

    def signal_late_end(self, run_id: str, now: float) -> None:
        """Record that the execution of an ended run has ended, by a webhook or by the response to a stop."""
        self._late_end_signalled_at[run_id] = now

    def late_end_signalled_at(self, run_id: str) -> float | None:
        """Return when the late end of a run was last recorded."""
        return self._late_end_signalled_at.get(run_id)

    def awaits_late_end(self, now: float) -> bool:
        """Return whether the execution of an ended run is polled at short intervals now."""
        for run_id, at in list(self._late_end_signalled_at.items()):
            if timing.signalled_end_poll_at(at, now - LATE_POLL_TICK) is None:
                del self._late_end_signalled_at[run_id]
        return bool(self._late_end_signalled_at)

    def awaits_end(self, run_id: str, now: float) -> bool:
        """Return whether a run is polled at short intervals now, because a webhook has signalled its completion."""
        at = self.known(run_id).completion_signalled_at
        return at is not None and timing.signalled_end_poll_at(at, now - LATE_POLL_TICK) is not None

    def set_state_id(self, run_id: str, state_id: str) -> None:
        """Record the id that a request has set for the state of its flow."""
        self._update(run_id, state_id=state_id)

    def find_state(self, state_id: str) -> str | None:
        """Return the id of the run whose request has set this id for the state of its flow."""
        return next((run_id for run_id, known in self._known.items() if known.state_id == state_id), None)

    def count_task(self, run_id: str, name: str, stored: int) -> None:
        """Record a webhook that reports one more finished task; `stored`: how many are stored with the run."""
        self._update(run_id, tasks=add_task(self.known(run_id).tasks, name, stored))

    def reconcile(self, tracked: TrackedRun, response: StatusResponse, polled_at: float) -> StatusResponse:
        """Return the status, completed with what webhooks reported if it is inconclusive; `tracked` lacks this poll."""
        known = self.known(tracked.run_id)
        reconciled = response
        if (result := known.webhook_result) is not None:
            missing = tracking.long_missing(replace(tracked, missing=tracked.missing + 1), polled_at)
            reconciled = with_webhook_result(response, result, long_missing=missing)
        return with_task_progress(reconciled, known.tasks, tracking.tasks_done(tracked.progress))
