"""A tracked run: the in-memory state of a run that is polled, and how each response to a poll updates it."""

from typing import Any

from bridge.core.crew import responses
from bridge.core.crew.progress import MAX_STEP, count
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input.model import QuestionStage
from bridge.core.runs.model import Progress, Run, State, TrackedRun
from bridge.core.runs.state_machine import is_poll_deferred
from bridge.core.values import replace

# An execution counts as lost after both:
LOST_POLLS = 5  # consecutive polls that did not find it
LOST_AFTER = 60.0  # seconds since it was last known to exist
MIN_PROGRESS_INTERVAL = 1.0  # seconds between two progress events of a run


def tracked_from_run(run: Run, policy: CrewPolicy, now: float) -> TrackedRun:
    """Return the in-memory state that tracking a run starts with."""
    assert run.kickoff_id is not None
    deadline = policy.deadline if run.request.deadline is None else run.request.deadline
    return TrackedRun(
        run_id=run.run_id,
        crew=run.crew,
        kickoff_id=run.kickoff_id,
        deadline=deadline + run.human_input.deadline_extension,
        alive_at=now,
        started_at=run.started_at,
        polls=run.polls,
        tasks_done=tasks_done(progress_key(run.progress)),
        began_at=run.sent_at,
        seen_at=run.sent_at if run.started_at is None else None,
        progress=progress_key(run.progress),
        seen_alive=run.started_at is not None,
        waiting=run.state is State.WAITING_FOR_HUMAN,
        unverified=run.unverified,
        deferred=is_poll_deferred(run),
        human_input=run.human_input,
    )


def sync_with_run(tracked: TrackedRun, run: Run) -> TrackedRun:
    """Update a tracked run from the stored run. Counts from before an answer do not apply to the time after it."""
    answering = run.human_input.stage is QuestionStage.SENT
    return replace(
        tracked,
        deadline=tracked.deadline + run.human_input.deadline_extension - tracked.human_input.deadline_extension,
        started_at=run.started_at or tracked.started_at,
        polls=max(tracked.polls, run.polls),
        waiting=run.state is State.WAITING_FOR_HUMAN,
        unverified=run.unverified,
        deferred=is_poll_deferred(run),
        human_input=run.human_input,
        pauses=tracked.pauses if run.human_input == tracked.human_input else 0,
        seen_alive=tracked.seen_alive and not answering,
    )


def record_response(
    tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float
) -> TrackedRun:
    """Return the tracked run after this response to a poll sent at `polled_at`."""
    polls = tracked.polls + 1
    match response:
        case responses.NoResponse():
            return replace(tracked, polls=polls, errors=tracked.errors + 1)
        case responses.CrewUnavailable():
            return replace(tracked, polls=polls, errors=0)
        case responses.NotFound():
            started_at = tracked.started_at or (polled_at if policy.human_input else None)
            return replace(tracked, polls=polls, errors=0, missing=tracked.missing + 1, started_at=started_at)
        case responses.Pending():
            return replace(
                tracked, polls=polls, errors=0, missing=0, alive_at=polled_at, began_at=polled_at, seen_at=polled_at,
                unverified=False,
            )  # fmt: skip
        case responses.WaitingForHuman():
            waiting = _alive(tracked, polled_at)
            return replace(waiting, began_at=None)  # time spent waiting for a human is not run time
        case responses.Running(progress):
            alive = _with_tasks(_alive(tracked, polled_at), tracked.seen_at, progress_key(progress), polled_at)
            return _with_progress(alive, progress_key(progress), polled_at)
        case responses.Unknown() | responses.TooLarge(succeeded=False):
            exists = isinstance(response, responses.TooLarge)
            errors = tracked.errors + 1 if exists else 0  # which makes polls rarer
            return replace(_alive(tracked, polled_at), errors=errors, unverified=tracked.unverified and not exists)
        case _:
            return _alive(tracked, polled_at)


def long_missing(tracked: TrackedRun, now: float) -> bool:
    """Return whether the execution has been missing for so long that it may be lost."""
    return tracked.missing >= LOST_POLLS and now - tracked.alive_at >= LOST_AFTER


def progress_key(progress: Any) -> Progress | None:
    """Return the part of a progress that is compared to detect a change; None if the API reports none."""
    if not isinstance(progress, dict):
        return None
    current, completed = progress.get("current"), count(progress.get("completed"))
    current = current[:MAX_STEP] if isinstance(current, str) else None
    return None if completed is None and current is None else (completed, count(progress.get("total")), current)


def tasks_done(progress: Progress | None) -> int | None:
    """Return how many tasks are done; None if the API does not report it."""
    return progress[0] if progress is not None and isinstance(progress[0], int) else None


def _alive(tracked: TrackedRun, now: float) -> TrackedRun:
    """Record that the execution exists and is no longer queued; the deadline counts from the first such poll."""
    return replace(
        tracked,
        polls=tracked.polls + 1,
        errors=0,
        missing=0,
        alive_at=now,
        seen_at=now,
        seen_alive=True,
        unverified=False,
        started_at=tracked.started_at or now,
    )


def _with_progress(tracked: TrackedRun, progress: Progress | None, polled_at: float) -> TrackedRun:
    """Record new progress; progress too soon after the last is recorded by a later poll."""
    if progress in (None, tracked.progress) or polled_at - tracked.progress_at < MIN_PROGRESS_INTERVAL:
        return tracked
    return replace(tracked, progress=progress, progress_at=polled_at)


def _with_tasks(tracked: TrackedRun, seen_before: float | None, progress: Progress | None, now: float) -> TrackedRun:
    """Record when the number of finished tasks changed: estimated as halfway between the previous poll and now."""
    done = tasks_done(progress)
    if done is None or done == tracked.tasks_done:
        return tracked
    since = now if seen_before is None else (seen_before + now) / 2
    task_marks = (*tracked.task_marks, (done, since)) if done > 0 else tracked.task_marks
    return replace(tracked, tasks_done=done, task_marks=task_marks)
