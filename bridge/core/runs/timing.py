"""When to start a run again, when evidence is overdue, and when to poll for a late result."""

from bridge.core.delivery.retry import HOUR, MINUTE
from bridge.core.jitter import _jitter
from bridge.core.runs.model import CrewPolicy, Run

MAX_KICKOFF_DELAY = 60.0
UNAVAILABLE_DELAY = 90.0  # longer than it takes until a paused crew is probed
LATE_FIRST, LATE_FOR = MINUTE, 24 * HOUR


def kickoff_again(run_id: str, attempt: int, now: float, after: float | None) -> float:
    """When to POST again after a refusal that started nothing."""
    delay = min(2.0 ** min(attempt, 10), MAX_KICKOFF_DELAY) * _jitter(run_id, attempt, 0.2)
    return now + max(delay, after or 0.0)


def after_unavailable(attempt: int, now: float) -> float:
    """When a run may try a crew again that turned it away: after others had their turn, for it may be to blame."""
    return now + min(attempt * UNAVAILABLE_DELAY, HOUR)


def evidence_due_at(policy: CrewPolicy, now: float) -> float:
    """When evidence has been waited for long enough."""
    return now + policy.in_doubt_after


def next_late_poll_at(run: Run, now: float) -> float | None:
    """When to look again at the execution of a run that is over: rarer and rarer, for a day."""
    assert run.finished_at is not None
    age = now - run.finished_at
    return None if age > LATE_FOR else now + min(max(age, LATE_FIRST), HOUR)
