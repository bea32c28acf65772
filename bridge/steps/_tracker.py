"""What this process keeps in memory of one crew's runs between steps."""

from collections.abc import Callable

from bridge.core.crew.responses import StatusResponse, Succeeded
from bridge.core.crew.webhooks import TasksDone, add_task, with_task_progress, with_webhook_result
from bridge.core.polling import PollQueue
from bridge.core.runs import timing, tracking
from bridge.core.runs.cache import RunCache
from bridge.core.runs.model import TRACKED_STATES, Run, TrackedRun
from bridge.core.values import replace

LATE_POLL_TICK = 0.3  # seconds between claims while executions of ended runs are polled at short intervals


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
        self._outdated: set[str] = set()
        self._too_large: set[str] = set()
        self._written = RunCache()
        self._webhook_seen: set[str] = set()
        self._completion_signalled: dict[str, Succeeded | None] = {}
        self._completion_signalled_at: dict[str, float] = {}
        self._late_end_signalled_at: dict[str, float] = {}
        self._tasks: dict[str, TasksDone] = {}
        self._state_ids: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.queue) + len(self._being_polled)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self.queue or run_id in self._being_polled

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
            self._outdated.add(tracked.run_id)
        return self.queue.put(tracked, due)

    def mark_too_large(self, run_id: str) -> bool:
        """Record that the status of a run is too large to be read; return whether that is new."""
        new = run_id not in self._too_large
        self._too_large.add(run_id)
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
        for by_run in (
            self._being_polled, self._completion_signalled, self._completion_signalled_at, self._tasks, self._state_ids,
        ):  # fmt: skip
            by_run.pop(run_id, None)
        for run_ids in (self._webhook_seen, self._outdated, self._too_large):
            run_ids.discard(run_id)

    def forget_everything(self) -> None:
        """Remove all tracked runs, because this process owns none of them any more."""
        self.queue.clear()
        self._written = RunCache()
        for kept in (
            self._being_polled,
            self._outdated,
            self._too_large,
            self._webhook_seen,
            self._completion_signalled,
            self._completion_signalled_at,
            self._late_end_signalled_at,
            self._tasks,
            self._state_ids,
        ):
            kept.clear()

    # Writes -------------------------------------------------------------------------------------------------------

    def mark_changed(self, run: Run) -> None:
        """Poll a run now, and load it first, because a step other than its poll has written it.

        A run without an owner that is not tracked here needs no mark: the process that claims it loads it.
        """
        if run.state in TRACKED_STATES and (run.owner is not None or run.run_id in self):
            self._outdated.add(run.run_id)
            self._written.pop(run.run_id)
            self.queue.expedite(run.run_id)

    def take_outdated(self, run_id: str) -> bool:
        """Return whether a run must be loaded before its poll, and clear the mark: later writes set it again."""
        if run_id not in self._outdated:
            return False
        self._outdated.remove(run_id)
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
        self._webhook_seen.add(run_id)

    def webhook_seen(self, run_id: str) -> bool:
        """Return whether a webhook about a run has arrived."""
        return run_id in self._webhook_seen

    def signal_completion(self, run_id: str, webhook_result: Succeeded | None, now: float) -> None:
        """Record that a webhook reported that an execution has ended, or may have, possibly with its result."""
        self._completion_signalled_at[run_id] = now
        self._completion_signalled[run_id] = webhook_result or self._completion_signalled.get(run_id)

    def completion_signalled_at(self, run_id: str) -> float | None:
        """Return when a webhook last signalled completion."""
        return self._completion_signalled_at.get(run_id)

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

    def completion_signalled(self, run_id: str) -> bool:
        """Return whether a webhook has signalled completion."""
        return run_id in self._completion_signalled

    def awaits_end(self, run_id: str, now: float) -> bool:
        """Return whether a run is polled at short intervals now, because a webhook has signalled its completion."""
        at = self._completion_signalled_at.get(run_id)
        return timing.signalled_end_poll_at(at, now - LATE_POLL_TICK) is not None

    def set_state_id(self, run_id: str, state_id: str) -> None:
        """Record the id that a request has set for the state of its flow: the flow's questions name it."""
        self._state_ids[run_id] = state_id

    def find_state(self, state_id: str) -> str | None:
        """Return the id of the run whose request has set this id for the state of its flow."""
        return next((run_id for run_id, known in self._state_ids.items() if known == state_id), None)

    def count_task(self, run_id: str, name: str, stored: int) -> None:
        """Record a webhook that reports one more finished task; `stored`: how many are stored with the run."""
        self._tasks[run_id] = add_task(self._tasks.get(run_id), name, stored)

    def webhook_result(self, run_id: str) -> Succeeded | None:
        """Return the result that a crew webhook reported and no status has confirmed."""
        return self._completion_signalled.get(run_id)

    def reconcile(self, tracked: TrackedRun, response: StatusResponse, polled_at: float) -> StatusResponse:
        """Return the status, completed with what webhooks reported if it is inconclusive; `tracked` lacks this poll."""
        missing = tracking.long_missing(replace(tracked, missing=tracked.missing + 1), polled_at)
        reconciled = with_webhook_result(response, self.webhook_result(tracked.run_id), long_missing=missing)
        return with_task_progress(reconciled, self._tasks.get(tracked.run_id), tracking.tasks_done(tracked.progress))
