"""Delays of runs: before another kickoff, until evidence is overdue, and between polls for a late result."""

from bridge.core.delivery.retry import HOUR, MINUTE
from bridge.core.jitter import _jitter
from bridge.core.runs.model import CrewPolicy, Run

MAX_KICKOFF_DELAY = 60.0
UNAVAILABLE_DELAY = 90.0  # longer than the probe interval of a paused crew
AFTER_ANNOUNCED_END = (0.3, 1.0, 2.0, 4.0)  # seconds since a webhook announced an end that the status did not confirm
FIRST_LATE_POLL, LATE_POLLS_FOR = MINUTE, 24 * HOUR


def kickoff_again(run_id: str, attempt: int, now: float, after: float | None) -> float:
    """Return when to POST again after a response that started nothing."""
    delay = min(2.0 ** min(attempt, 10), MAX_KICKOFF_DELAY) * _jitter(run_id, attempt, 0.2)
    return now + max(delay, after or 0.0)


def after_unavailable(attempt: int, now: float) -> float:
    """Return when to try an unavailable crew again: other runs go first, as this one may be the cause."""
    return now + min(attempt * UNAVAILABLE_DELAY, HOUR)


def evidence_due_at(policy: CrewPolicy, now: float) -> float:
    """Return when the wait for evidence ends."""
    return now + policy.in_doubt_after


def next_late_poll_at(run: Run, now: float) -> float | None:
    """Return when to poll the execution of an ended run again: ever less often, for a day; None after that."""
    assert run.finished_at is not None
    age = now - run.finished_at
    return None if age > LATE_POLLS_FOR else now + min(max(age, FIRST_LATE_POLL), HOUR)


def after_announced_end(announced_at: float | None, now: float) -> float | None:
    """Return when to poll an execution whose announced end is not confirmed; None: as usual."""
    if announced_at is None:
        return None
    return next((announced_at + after for after in AFTER_ANNOUNCED_END if announced_at + after > now), None)
