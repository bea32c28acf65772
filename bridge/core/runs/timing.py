"""Delays of runs: after failures, before another kickoff, between polls for late results."""

from bridge.core import jitter
from bridge.core.delivery.retry import HOUR, MINUTE
from bridge.core.runs.model import Deferral, Run

DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
"""Seconds after the first failure in a row, the second, and so on; the last one repeats."""

MAX_KICKOFF_DELAY = 60.0  # seconds
UNAVAILABLE_DELAY = 90.0  # seconds; longer than the probe interval of a paused crew
AFTER_SIGNALLED_END = (0.3, 1.0, 2.0, 4.0)  # seconds since a webhook signalled an end that the status did not confirm
FIRST_LATE_POLL, LATE_POLLS_FOR = MINUTE, 24 * HOUR


def delay_after(failures: int) -> float:
    """Return the seconds to wait after this many consecutive failures."""
    return DELAYS[min(max(failures, 1), len(DELAYS)) - 1]


def deferred_again(before: Deferral | None, detail: str, now: float) -> Deferral:
    """Return the deferral after one more failure; `since` stays that of the first."""
    failures = 1 if before is None else before.failures + 1
    since = now if before is None else before.since
    return Deferral(detail, since, now + delay_after(failures), failures)


def next_kickoff_at(run_id: str, attempt: int, now: float, after: float | None) -> float:
    """Return when to POST again after a response that started nothing."""
    delay = min(2.0 ** min(attempt, 10), MAX_KICKOFF_DELAY) * jitter.factor(run_id, attempt, 0.2)
    return now + max(delay, after or 0.0)


def unavailable_retry_at(attempt: int, now: float) -> float:
    """Return when to try an unavailable crew again: other runs go first, because this one may be the cause."""
    return now + min(attempt * UNAVAILABLE_DELAY, HOUR)


def next_late_poll_at(run: Run, now: float) -> float | None:
    """Return when to poll the execution of an ended run again: ever less often, for a day; None after that."""
    assert run.finished_at is not None
    age = now - run.finished_at
    return None if age > LATE_POLLS_FOR else now + min(max(age, FIRST_LATE_POLL), HOUR)


def signalled_end_poll_at(signalled_at: float | None, now: float) -> float | None:
    """Return when to poll an execution whose signalled end is not confirmed; None: as usual."""
    if signalled_at is None:
        return None
    return next((signalled_at + after for after in AFTER_SIGNALLED_END if signalled_at + after > now), None)
