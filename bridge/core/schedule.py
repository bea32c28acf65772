"""When to look next, when to try again, when to give up: pure functions of ids, counts and the time given.

Growing intervals belong to errors. Waiting for an end that may come at any moment is served best by steady looks:
backing off there costs several times the delay for the same number of looks.

Chance is computed from an id and a count, so that a decision can be repeated and tested; over many ids it spreads as
dice would.
"""

import hashlib
from email.utils import parsedate_to_datetime

from bridge.core.model import Channel, CrewPolicy, Run, Watch
from bridge.core.number import read_number

STEADY_INTERVAL = 5.0  # seconds between looks while nothing is known of a crew's run times
MAX_RETRY_AFTER = 86_400.0
MAX_KICKOFF_DELAY = 60.0
_OF_THE_DEADLINE = 0.1
_APART = 0.05  # of a pause, so that runs started together are not looked at together for ever
TURNED_AWAY = 90.0  # longer than it takes until a paused crew is probed

MINUTE, HOUR = 60.0, 3600.0
LATE_FIRST, LATE_FOR = MINUTE, 24 * HOUR
_CALLBACK_DELAYS = (
    5.0,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
_BROKER_MAX_DELAY = HOUR
_REPLY_QUEUE_ATTEMPTS = 34  # about a day; a reply queue that is gone for that long does not come back


def plain_next_look(
    watch: Watch, policy: CrewPolicy, now: float, pause: float, after: float | None = None, *, stretched: bool = False
) -> float:
    """When to look at a status again, as far as no human is asked; `humans.next_look` is the whole.

    `pause` is what the crew's past runs advise, in seconds (`core.learning`), `after` how long the API asked us to
    wait. `stretched`: webhooks will most likely tell us when, so that looks are only there for those that get lost.
    """
    interval = _stretched_interval(watch, policy) if stretched else within_limits(policy, pause)
    if watch.errors:
        interval = min(interval * 2.0 ** min(watch.errors, 10), max(policy.poll_max, interval))
    due = now + max(interval * _jitter(watch.run_id, watch.polls, _APART), after or 0.0)
    if watch.deadline_at is not None and now < watch.deadline_at < due:
        return watch.deadline_at  # the last look is made when the deadline passes, not an interval later
    return due


def steady_interval(policy: CrewPolicy, mean: float | None = None) -> float:
    """Seconds between even looks that cost `poll.looks` of them, if the mean run time in seconds is known."""
    known = (
        None if mean is None else mean / max(policy.poll_looks - 0.5, 0.5)
    )  # the last pause is half over, on average
    return within_limits(policy, STEADY_INTERVAL if known is None else known)


def within_limits(policy: CrewPolicy, pause: float) -> float:
    """A pause held between the crew's limits."""
    return min(max(pause, policy.poll_min), policy.poll_max)


def _stretched_interval(watch: Watch, policy: CrewPolicy) -> float:
    """As rare as the crew allows, but not so rare that a deadline would be noticed much too late."""
    return max(steady_interval(policy), min(policy.poll_max, _OF_THE_DEADLINE * watch.deadline))


def spread(run_id: str, now: float, over: float) -> float:
    """A moment within `over` seconds from now, so that many runs taken up at once are not looked at all at once."""
    return now + over * fraction(run_id, 0)


def kickoff_again(run_id: str, attempt: int, now: float, after: float | None) -> float:
    """When to POST again after a refusal that started nothing."""
    delay = min(2.0 ** min(attempt, 10), MAX_KICKOFF_DELAY) * _jitter(run_id, attempt, 0.2)
    return now + max(delay, after or 0.0)


def after_turned_away(attempt: int, now: float) -> float:
    """When a run may try a crew again that turned it away: after others had their turn, for it may be to blame."""
    return now + min(attempt * TURNED_AWAY, HOUR)


def doubt_ends(policy: CrewPolicy, now: float) -> float:
    """When evidence has been waited for long enough."""
    return now + policy.in_doubt_after


def next_late_look(run: Run, now: float) -> float | None:
    """When to look again at the execution of a run that is over: rarer and rarer, for a day."""
    assert run.finished_at is not None
    age = now - run.finished_at
    return None if age > LATE_FOR else now + min(max(age, LATE_FIRST), HOUR)


def deliver_again(delivery_id: str, channel: Channel, attempts: int, now: float, after: float | None) -> float | None:
    """When to try a delivery again after `attempts` failures; None: never, it is dead.

    Callback URLs follow the schedule that Standard Webhooks proposes. The results exchange and the dead queue are ours
    and are tried for ever; a reply queue belongs to its consumer and is given up after about a day.
    """
    delay = _delivery_delay(channel, attempts)
    if delay is None:
        return None
    return now + max(delay * _jitter(delivery_id, attempts, 0.2), min(after or 0.0, MAX_RETRY_AFTER))


def parse_retry_after(header: str | None, date: str | None = None) -> float | None:
    """Seconds asked for by `Retry-After` (RFC 9110, 10.2.3); None where it is absent, past or no such header.

    A date counts from the answer's own `Date`, so that no two clocks are compared.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = read_number(text)
        return (
            MAX_RETRY_AFTER if seconds is None else min(float(seconds), MAX_RETRY_AFTER)
        )  # None: more than any number
    then, sent = _http_date(text), _http_date(date or "")
    if then is None or sent is None or then <= sent:
        return None
    return min(then - sent, MAX_RETRY_AFTER)


def _delivery_delay(channel: Channel, attempts: int) -> float | None:
    if channel is Channel.CALLBACK:
        return _CALLBACK_DELAYS[attempts - 1] if attempts <= len(_CALLBACK_DELAYS) else None
    if channel is Channel.QUEUE and attempts >= _REPLY_QUEUE_ATTEMPTS:
        return None
    return min(2.0 ** min(attempts, 16), _BROKER_MAX_DELAY)


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _jitter(key: str, count: int, width: float) -> float:
    """A factor between 1 - width and 1 + width."""
    return 1.0 + width * (2.0 * fraction(key, count) - 1.0)


def fraction(key: str, count: int) -> float:
    """A number from 0 up to 1, evenly spread over keys and counts."""
    digest = hashlib.blake2b(f"{key}:{count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
