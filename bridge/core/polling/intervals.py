"""Decide when to poll a run next, from the pause that the planner recommends."""

from bridge.core import jitter
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs.model import TrackedRun

STEADY_INTERVAL = 5.0  # seconds between polls while a crew's run times are unknown
_DEADLINE_FRACTION = 0.1  # longest fallback interval, as a fraction of the deadline
_JITTER = 0.05  # of an interval, so that runs started together are not always polled together


def next_poll_at(
    tracked: TrackedRun,
    policy: CrewPolicy,
    now: float,
    pause: float,
    after: float | None = None,
    *,
    at_fallback_interval: bool = False,
) -> float:
    """Return when to poll again, without regard to questions and webhooks.

    `pause` is the planner's recommendation and `after` the wait that the API asked for, both in seconds.
    `at_fallback_interval`: webhooks will most likely report the end, so polls only cover lost webhooks.
    """
    interval = _fallback_interval(tracked, policy) if at_fallback_interval else within_limits(policy, pause)
    if tracked.errors:
        interval = min(interval * 2.0 ** min(tracked.errors, 10), max(policy.poll_max_interval, interval))
    due = now + max(interval * jitter.factor(tracked.run_id, tracked.polls, _JITTER), after or 0.0)
    if tracked.deadline_at is not None and now < tracked.deadline_at < due:
        return tracked.deadline_at  # the last poll is made when the deadline passes, not an interval later
    return due


def steady_interval(policy: CrewPolicy, mean: float | None = None) -> float:
    """Return the interval of even polls that costs `poll.per_run` polls, if the mean run time in seconds is known."""
    if mean is None:
        return within_limits(policy, STEADY_INTERVAL)
    return within_limits(policy, mean / max(policy.poll_per_run - 0.5, 0.5))  # a run ends halfway through a pause


def within_limits(policy: CrewPolicy, pause: float) -> float:
    """Clamp a pause to `poll.min_interval` and `poll.max_interval` of the crew."""
    return min(max(pause, policy.poll_min_interval), policy.poll_max_interval)


def _fallback_interval(tracked: TrackedRun, policy: CrewPolicy) -> float:
    """Return the longest interval of the crew, shortened where a deadline would be detected much too late."""
    return max(steady_interval(policy), min(policy.poll_max_interval, _DEADLINE_FRACTION * tracked.deadline))
