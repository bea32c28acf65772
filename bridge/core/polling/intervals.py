"""When to poll a run next, from the interval that the planner advises."""

from bridge.core.jitter import _jitter
from bridge.core.runs.model import CrewPolicy, TrackedRun

STEADY_INTERVAL = 5.0  # seconds between polls while a crew's run times are unknown
_OF_THE_DEADLINE = 0.1
_APART = 0.05  # of a pause, so that runs started together are not polled together forever


def execution_poll_at(
    tracked: TrackedRun,
    policy: CrewPolicy,
    now: float,
    pause: float,
    after: float | None = None,
    *,
    at_fallback_interval: bool = False,
) -> float:
    """Return when to poll again, without regard to human input; `rules.next_poll_at` adds that.

    `pause` is what the crew's past runs advise, in seconds (`core.planner`), `after` how long the API asked us to
    wait. `at_fallback_interval`: webhooks will most likely report the end, so that polls only cover those that
    get lost.
    """
    interval = _fallback_interval(tracked, policy) if at_fallback_interval else within_limits(policy, pause)
    if tracked.errors:
        interval = min(interval * 2.0 ** min(tracked.errors, 10), max(policy.poll_max_interval, interval))
    due = now + max(interval * _jitter(tracked.run_id, tracked.polls, _APART), after or 0.0)
    if tracked.deadline_at is not None and now < tracked.deadline_at < due:
        return tracked.deadline_at  # the last poll is made when the deadline passes, not an interval later
    return due


def steady_interval(policy: CrewPolicy, mean: float | None = None) -> float:
    """Return the interval of even polls that costs `poll.per_run` polls, if the mean run time in seconds is known."""
    known = (
        None if mean is None else mean / max(policy.poll_per_run - 0.5, 0.5)
    )  # the last pause is half over, on average
    return within_limits(policy, STEADY_INTERVAL if known is None else known)


def within_limits(policy: CrewPolicy, pause: float) -> float:
    """A pause held between the crew's limits."""
    return min(max(pause, policy.poll_min_interval), policy.poll_max_interval)


def _fallback_interval(tracked: TrackedRun, policy: CrewPolicy) -> float:
    """As rare as the crew allows, but not so rare that a deadline would be noticed much too late."""
    return max(steady_interval(policy), min(policy.poll_max_interval, _OF_THE_DEADLINE * tracked.deadline))
