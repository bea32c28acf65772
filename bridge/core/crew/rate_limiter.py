"""An adaptive rate limiter per crew: one rate for all calls, halved when the crew is overloaded, then raised again.

Kickoffs and calls that wait, such as human input, take precedence over polls, and share the permits evenly. While polls
are overdue, a part of the permits is reserved for them: a run whose end is not seen keeps its slot, and no other run
could start.

After several refusals or failures in a row, the limiter backs off; then one call is made, and the others follow once
it gets a response.
"""

import math
from dataclasses import dataclass

from bridge.core.crew.fair_share import FairShare

BURST_SECONDS = 0.02  # seconds' worth of permits that may be acquired at once after a pause
POLL_RESERVE = 0.25  # of a permit, reserved for polls with each other call while polls are overdue
KICKOFF_RESERVE = 1.0  # permits, reserved for kickoffs with each call that waited while kickoffs wait as well
RECOVERY_SECONDS = 20.0  # seconds of responses that raise the rate from zero to the full rate
MIN_RATE_FRACTION = 1 / 16  # of the full rate,
MIN_RATE = 0.2  # but at least this many calls per second, so that recovery is detected
FAILURES_UNTIL_BACKOFF = 5  # calls in a row without a response, or refused
FIRST_BACKOFF, MAX_BACKOFF = 0.5, 5.0  # seconds; doubled from first to max
MAX_RETRY_AFTER = 300.0  # seconds; longest Retry-After that is honored for a whole crew
PROBE_TIMEOUT = 60.0  # seconds to wait for the response to a probing call
SILENCE_TTL = 600.0  # seconds without any call, after which the crew no longer counts as unresponsive
_RETRY_INTERVAL = 0.1  # seconds
_ROUNDING = 1e-6  # of a permit


@dataclass(frozen=True, slots=True)
class Backoff:
    """A suspension of all calls. `until`: when a call is made again, None while that call awaits its response."""

    since: float
    until: float | None


class RateLimiter:
    """The permits of one crew. Times in seconds of one clock; `share`: the processes that divide the rate."""

    def __init__(self, per_second: float = 1e9, share: FairShare | None = None) -> None:
        self.waiting = 0
        """Calls other than kickoffs and polls that wait for a permit."""
        self.kickoffs_waiting = 0
        """Kickoffs that were refused a permit and may still want one."""
        self.full_rate = per_second
        """The calls per second that all processes together may make while the crew is not overloaded."""
        self._share = share or FairShare()
        self._fraction = 1.0
        self._permits = max(1.0, BURST_SECONDS * per_second)
        self._poll_permits = 0.0
        self._kickoff_permits = 0.0
        self._polls_waiting = False
        self._at = -math.inf
        self._lowered_at = -math.inf
        self._raised_at = -math.inf
        self._suspended_at = -math.inf
        self._suspended_until = -math.inf
        self._failures = 0
        self._unanswered_at: list[float] = []
        self._backoffs = 0
        self._probe_sent_at: float | None = None

    def use(self, per_second: float) -> None:
        """Permit another rate from now on."""
        self.full_rate = per_second

    @property
    def per_second(self) -> float:
        """The calls per second that this process may make now."""
        return self._fraction * self.full_rate / self._share.processes

    def backing_off(self, now: float) -> bool:
        """Return whether calls to the crew are suspended."""
        return now < self._suspended_until

    def backoff(self, now: float) -> Backoff | None:
        """Return the suspension of calls, if there is one."""
        suspended = self.backing_off(now)
        until = self._suspended_until if suspended else None
        return Backoff(self._suspended_at, until) if suspended or self._awaits_probe(now) else None

    def unresponsive_since(self, now: float) -> float | None:
        """Return the time of the first of five or more calls in a row without a response; None if there are none.

        After ten minutes without a call it is unknown whether the crew responds again.
        """
        unanswered = self._unanswered_at
        current = len(unanswered) == FAILURES_UNTIL_BACKOFF and now < unanswered[-1] + SILENCE_TTL
        return unanswered[0] if current else None

    def acquire(self, now: float) -> float:
        """Acquire a permit for a call that waits: 0.0 if there is one, otherwise the seconds to wait."""
        self._refill(now)
        if (wait := self._pause(now)) > 0.0:
            return wait
        reserved = KICKOFF_RESERVE if self.kickoffs_waiting else 0.0
        self._kickoff_permits = min(self._kickoff_permits + reserved, self._max_permits)
        self._permits -= 1.0 + reserved
        self._reserve_for_polls(1)
        self._sent(now, 1)
        return 0.0

    def acquire_for_kickoffs(self, now: float, wanted: int) -> int:
        """Acquire permits for kickoffs; return how many. Those not used must be returned at once."""
        self._refill(now)
        given = self._given(now, wanted, self._kickoff_permits + max(self._permits - self.waiting, 0.0))
        reserved = min(self._kickoff_permits, given)
        self._kickoff_permits -= reserved
        self._permits -= given - reserved
        self._reserve_for_polls(given)
        self.kickoffs_waiting = wanted - given
        self._sent(now, given)
        return given

    def acquire_for_polls(self, now: float, wanted: int) -> int:
        """Acquire permits for due polls; return how many. Kickoffs and calls that wait take precedence."""
        self._refill(now)
        others = self.waiting + self.kickoffs_waiting
        given = self._given(now, wanted, self._poll_permits + max(self._permits - others, 0.0))
        reserved = min(self._poll_permits, given)
        self._poll_permits -= reserved
        self._permits -= given - reserved
        self._polls_waiting = given < wanted
        self._sent(now, given)
        return given

    def return_kickoff_permits(self, unused: int) -> bool:
        """Return permits of kickoffs that are not made, because no more runs can start.

        Return whether polls may use them now.
        """
        if not unused:
            return False
        self.kickoffs_waiting = 0
        self._permits = min(self._permits + unused, self._max_permits)
        self.return_permit()
        return self._polls_waiting

    def seconds_until_permits(self, now: float) -> float:
        """Return the seconds until permits for kickoffs or polls may be available."""
        return self._pause(now) or 1.0 / self.per_second

    def on_response(self, now: float) -> None:
        """Record a response, whatever its content: the crew was able to handle the call."""
        raised_for = min(now - self._raised_at, max(1.0, 1.0 / self.per_second))
        self._fraction = min(1.0, self._fraction + raised_for / RECOVERY_SECONDS)
        self._raised_at = now
        self._failures, self._backoffs, self._probe_sent_at = 0, 0, None
        self._unanswered_at = []

    def return_permit(self) -> None:
        """Record that no call follows an acquired permit."""
        self._probe_sent_at = None

    def on_throttled(self, sent_at: float, now: float, after: float | None) -> None:
        """Record that the crew refused a call as one too many; `after`: the seconds of its Retry-After."""
        self._unanswered_at = []
        self._slow_down(sent_at, now)
        if after is not None:
            self._suspend(now, min(after, MAX_RETRY_AFTER))
            self._backoffs = max(self._backoffs, 1)

    def on_no_response(self, sent_at: float, now: float, *, counts: bool = True) -> None:
        """Record a call without a response; it lowers the rate only if it `counts`."""
        self._unanswered_at = [*self._unanswered_at[: FAILURES_UNTIL_BACKOFF - 1], now]
        if counts:
            self._slow_down(sent_at, now, at_once=False)
        elif self._backoffs:
            self._back_off(now)

    @property
    def _max_permits(self) -> float:
        return 1.0 + BURST_SECONDS * self.per_second

    def _given(self, now: float, wanted: int, free: float) -> int:
        """Return how many calls may be made now with this many free permits."""
        if now < self._suspended_until or self._awaits_probe(now):
            return 0
        return min(wanted, math.floor(free + _ROUNDING), 1 if self._backoffs else wanted)

    def _reserve_for_polls(self, calls: int) -> None:
        """Reserve a part of the permits for polls with these calls, if polls wait."""
        if self._polls_waiting:
            self._permits -= POLL_RESERVE * calls
            self._poll_permits = min(self._poll_permits + POLL_RESERVE * calls, self._max_permits)

    def _refill(self, now: float) -> None:
        if now > self._at > -math.inf:
            self._permits = min(self._max_permits, self._permits + (now - self._at) * self.per_second)
        self._at = now

    def _pause(self, now: float) -> float:
        if now < self._suspended_until:
            return self._suspended_until - now
        if self._awaits_probe(now):
            return _RETRY_INTERVAL
        lacking = 1.0 - self._permits
        return lacking / self.per_second if lacking > _ROUNDING else 0.0

    def _awaits_probe(self, now: float) -> bool:
        return self._probe_sent_at is not None and now < self._probe_sent_at + PROBE_TIMEOUT

    def _sent(self, now: float, calls: int) -> None:
        """Make the first call after a backoff a probe: no other call until it gets a response."""
        if calls and self._backoffs:
            self._probe_sent_at = now

    def _slow_down(self, sent_at: float, now: float, *, at_once: bool = True) -> None:
        """Lower the rate, unless the call was sent before the last decrease: calls in flight together count once."""
        self._failures += 1
        enough = self._failures >= FAILURES_UNTIL_BACKOFF or self._backoffs > 0
        if sent_at >= self._lowered_at and (at_once or enough):
            lowest = min(1.0, max(MIN_RATE_FRACTION, MIN_RATE / self.full_rate))
            self._fraction = max(self._fraction / 2, lowest)
            self._lowered_at = self._raised_at = now
            self._permits, self._at = 0.0, now
            if enough:
                self._back_off(now)

    def _back_off(self, now: float) -> None:
        self._suspend(now, min(FIRST_BACKOFF * 2.0**self._backoffs, MAX_BACKOFF))
        self._backoffs += 1

    def _suspend(self, now: float, seconds: float) -> None:
        if not self._backoffs:
            self._suspended_at = now
        self._suspended_until = max(self._suspended_until, now + seconds)
        self._probe_sent_at = None
