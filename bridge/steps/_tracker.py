"""What this process keeps in mind of one crew's runs between their looks, and between the steps."""

from collections.abc import Callable
from dataclasses import replace

from bridge.core.crew.responses import StatusResponse, Succeeded
from bridge.core.crew.webhooks import TasksDone, add_task, with_task_progress, with_webhook_result
from bridge.core.human_input import rules
from bridge.core.polling.queue import PollQueue
from bridge.core.runs import state_machine
from bridge.core.runs.cache import RunCache
from bridge.core.runs.model import Run, TrackedRun


class RunTracker:
    """The runs that are followed, when each is looked at next, and what webhooks have told of them.

    * All of it may be lost at any moment: the store is the truth, and what webhooks told were only hints.
    * A run is followed while it is in the timetable or being looked at. Whoever takes it out to look at it puts it
      back, or it is followed no more.
    * `forget` leaves nothing of a run, also while it is being looked at: then it cannot be put back.
    * A run that is written by others than those who look at it is outdated: the next look reads it first.
    * A hint may come before its run is followed here, and counts from then on.
    """

    def __init__(self) -> None:
        self.queue = PollQueue()
        self._being_polled: set[str] = set()
        self._outdated: set[str] = set()
        self._written = RunCache()
        self._webhook_seen: set[str] = set()
        self._completion_signalled: dict[str, Succeeded | None] = {}
        self._tasks: dict[str, TasksDone] = {}
        self._evidence: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.queue) + len(self._being_polled)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self.queue or run_id in self._being_polled

    # From look to look --------------------------------------------------------------------------------------------

    def track(self, tracked: TrackedRun, due: float) -> None:
        """Look at a run from now on; a look that is under way with an older watch is its last."""
        self._being_polled.discard(tracked.run_id)
        self.queue.put(tracked, due)

    def take_due(self, now: float, room: int, chance: Callable[[TrackedRun], float]) -> list[TrackedRun]:
        """Take out at most `room` runs whose time has come, to be looked at now."""
        taken = self.queue.take_due(now, room, chance)
        self._being_polled.update(tracked.run_id for tracked in taken)
        return taken

    def resume_polling(self, tracked: TrackedRun, due: float, *, outdated: bool = False) -> None:
        """Go on with a run that was looked at, unless it was forgotten meanwhile; `outdated`: read it first."""
        if tracked.run_id in self._being_polled:
            self.queue.put(tracked, due)
            if outdated:
                self._outdated.add(tracked.run_id)

    def poll_finished(self, run_id: str) -> None:
        """The look is over."""
        self._being_polled.discard(run_id)

    def forget(self, run_id: str) -> None:
        """A run is over, or another process's: nothing of it is kept in mind, and a look under way is the last."""
        self.queue.drop(run_id)
        self._written.pop(run_id)
        for noted in (self._completion_signalled, self._tasks):
            noted.pop(run_id, None)
        for noticed in (self._webhook_seen, self._outdated, self._being_polled):
            noticed.discard(run_id)

    def forget_everything(self) -> None:
        """All that was followed is no longer ours; looks under way are the last. Answers to POSTs are still awaited."""
        self.queue.clear()
        self._written = RunCache()
        for noted in (self._being_polled, self._outdated, self._webhook_seen, self._completion_signalled, self._tasks):
            noted.clear()

    # What is written of a run -------------------------------------------------------------------------------------

    def mark_changed(self, run: Run) -> None:
        """A run was written while it is, or may be, followed: look now, with what is new in mind.

        One that has no owner and is not followed here begins with what is written by then, wherever that will be.
        """
        if run.state in rules.TRACKED_STATES and (run.owner is not None or run.run_id in self):
            self._outdated.add(run.run_id)
            self._written.pop(run.run_id)
            self.queue.expedite(run.run_id)

    def take_outdated(self, run_id: str) -> bool:
        """Whether to read a run before the look; that will be done now, so what is written from here on counts anew."""
        if run_id not in self._outdated:
            return False
        self._outdated.remove(run_id)
        return True

    def cache_written(self, run: Run) -> None:
        """Keep a run as it was written just now."""
        self._written.put(run)

    def take_cached(self, run_id: str) -> Run | None:
        """A run as it was written here last, if it is still known; at most once, since it is to be written anew."""
        return self._written.pop(run_id)

    # What webhooks told -------------------------------------------------------------------------------------------

    def mark_webhook_seen(self, run_id: str) -> None:
        """A webhook came of a run."""
        self._webhook_seen.add(run_id)

    def webhook_seen(self, run_id: str) -> bool:
        """Whether a webhook has come of a run."""
        return run_id in self._webhook_seen

    def signal_completion(self, run_id: str, webhook_result: Succeeded | None) -> None:
        """A webhook said that a run is over, or may be, perhaps with its result."""
        self._completion_signalled[run_id] = webhook_result or self._completion_signalled.get(run_id)

    def completion_signalled(self, run_id: str) -> bool:
        """Whether a webhook has said so."""
        return run_id in self._completion_signalled

    def count_task(self, run_id: str, name: str) -> None:
        """A webhook said that one more task is done."""
        self._tasks[run_id] = add_task(self._tasks.get(run_id), name)

    def webhook_result(self, run_id: str) -> Succeeded | None:
        """The result that a crew webhook reported, which the status has not confirmed."""
        return self._completion_signalled.get(run_id)

    def complete(self, tracked: TrackedRun, answer: StatusResponse, asked_at: float) -> StatusResponse:
        """A status, with what webhooks told where it tells nothing; `tracked` does not count this poll yet."""
        missing = state_machine.long_missing(replace(tracked, missing=tracked.missing + 1), asked_at)
        believed = with_webhook_result(answer, self.webhook_result(tracked.run_id), long_missing=missing)
        return with_task_progress(believed, self._tasks.get(tracked.run_id))

    def keep_evidence(self, run_id: str, kickoff_id: str) -> None:
        """A webhook named the execution of a run whose POST is still awaited."""
        self._evidence[run_id] = kickoff_id

    def take_evidence(self, run_id: str) -> str | None:
        """The execution that a webhook named."""
        return self._evidence.pop(run_id, None)
