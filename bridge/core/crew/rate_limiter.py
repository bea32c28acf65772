"""How often one crew is called: one rate for all calls, lowered when it is too much for the crew, raised again after.

Kickoffs and humans' answers go first. While looks are overdue a part of the turns is theirs all the same: a run whose
end nobody sees holds its place, and nothing more could be started.

A crew that refuses or does not answer several times in a row is left alone for a moment; then one call is made, and
the others follow when that was answered.
"""

import math

from bridge.core.crew.fair_share import FairShare

BURST_SECONDS = 0.02  # seconds' worth of turns that may be taken at once after a pause
POLL_RESERVE = 0.25  # of a turn is put by for looks with each kickoff while looks are overdue
RECOVERY_SECONDS = 20.0  # seconds of answers that take the rate from nothing to all
MIN_RATE_FRACTION = 1 / 16  # of the rate,
MIN_RATE = 0.2  # but not rarer than this per second, or one could not find out that all is well again
FAILURES_UNTIL_REST = 5  # calls without an answer, or refused
FIRST_BACKOFF, MAX_BACKOFF = 0.5, 5.0  # seconds, doubled from the one to the other
MAX_RETRY_AFTER = 300.0  # seconds for which one answer's Retry-After can silence a whole crew
PROBE_TIMEOUT = 60.0  # seconds after which the answer to a lone call is not waited for any more
_ASK_AGAIN = 0.1  # seconds
_ROUNDING = 1e-6  # of a turn


class RateLimiter:
    """One crew's turns. Times in seconds of one clock; `share`: the processes that use the rate together."""

    def __init__(self, per_second: float = 1e9, share: FairShare | None = None) -> None:
        self.waiting = 0
        """Kickoffs and answers that wait for their turn."""
        self._full = per_second
        self._share = share or FairShare()
        self._part = 1.0
        self._permits = max(1.0, BURST_SECONDS * per_second)
        self._poll_permits = 0.0
        self._polls_waiting = False
        self._at = -math.inf
        self._lowered_at = -math.inf
        self._raised_at = -math.inf
        self._rests_until = -math.inf
        self._in_a_row = 0
        self._rests = 0
        self._lone_call: float | None = None

    @property
    def per_second(self) -> float:
        """How many calls this process may make now."""
        return self._part * self._full / self._share.processes

    def backing_off(self, now: float) -> bool:
        """Whether the crew is left alone."""
        return now < self._rests_until

    def acquire(self, now: float) -> float:
        """Take a turn for a kickoff or an answer: 0.0 if there is one, else the seconds until it is worth asking."""
        self._refill(now)
        if (wait := self._pause(now)) > 0.0:
            return wait
        put_by = POLL_RESERVE if self._polls_waiting else 0.0
        self._permits -= 1.0 + put_by
        self._poll_permits = min(self._poll_permits + put_by, self._most)
        self._left(now, 1)
        return 0.0

    def acquire_for_polls(self, now: float, wanted: int) -> int:
        """Take turns for looks that are due, as many as there are beside those who go first; how many that is."""
        self._refill(now)
        if now < self._rests_until or self._waits_for_answer(now):
            free = 0.0
        else:
            free = self._poll_permits + max(self._permits - self.waiting, 0.0)
        given = min(wanted, math.floor(free + _ROUNDING), 1 if self._rests else wanted)
        from_others = max(given - self._poll_permits, 0.0)
        self._poll_permits -= given - from_others
        self._permits -= from_others
        self._polls_waiting = given < wanted
        self._left(now, given)
        return given

    def seconds_until_polls(self, now: float) -> float:
        """Seconds until it is worth asking for looks again."""
        return max(self._pause(now), 1.0 / self.per_second)

    def on_response(self, now: float) -> None:
        """The crew answered a call; whatever it said, the call was not too much for it."""
        raised_for = min(now - self._raised_at, max(1.0, 1.0 / self.per_second))
        self._part = min(1.0, self._part + raised_for / RECOVERY_SECONDS)
        self._raised_at = now
        self._in_a_row, self._rests, self._lone_call = 0, 0, None

    def return_permit(self) -> None:
        """A turn was taken, and there was nothing to call for after all."""
        self._lone_call = None

    def on_throttled(self, sent_at: float, now: float, after: float | None) -> None:
        """The crew said that a call was too much for it; `after`: for how many seconds it asked us to stay away."""
        self._trouble(sent_at, now)
        if after is not None:
            self._rest(now, min(after, MAX_RETRY_AFTER))
            self._rests = max(self._rests, 1)

    def on_no_response(self, sent_at: float, now: float, *, counts: bool = True) -> None:
        """A call got no answer; only if it `counts` does that alone make us slower."""
        if counts:
            self._trouble(sent_at, now, at_once=False)
        elif self._rests:
            self._rest_longer(now)

    @property
    def _most(self) -> float:
        return 1.0 + BURST_SECONDS * self.per_second

    def _refill(self, now: float) -> None:
        if now > self._at > -math.inf:
            self._permits = min(self._most, self._permits + (now - self._at) * self.per_second)
        self._at = now

    def _pause(self, now: float) -> float:
        if now < self._rests_until:
            return self._rests_until - now
        if self._waits_for_answer(now):
            return _ASK_AGAIN
        lacking = 1.0 - self._permits
        return lacking / self.per_second if lacking > _ROUNDING else 0.0

    def _waits_for_answer(self, now: float) -> bool:
        return self._lone_call is not None and now < self._lone_call + PROBE_TIMEOUT

    def _left(self, now: float, calls: int) -> None:
        """After a rest the first call is alone until it is answered."""
        if calls and self._rests:
            self._lone_call = now

    def _trouble(self, sent_at: float, now: float, *, at_once: bool = True) -> None:
        """Slower, unless this call had left before we became so: what is under way together is one trouble."""
        self._in_a_row += 1
        enough = self._in_a_row >= FAILURES_UNTIL_REST or self._rests > 0
        if sent_at >= self._lowered_at and (at_once or enough):
            lowest = min(1.0, max(MIN_RATE_FRACTION, MIN_RATE / self._full))
            self._part = max(self._part / 2, lowest)
            self._lowered_at = self._raised_at = now
            self._permits, self._at = 0.0, now
            if enough:
                self._rest_longer(now)

    def _rest_longer(self, now: float) -> None:
        self._rest(now, min(FIRST_BACKOFF * 2.0**self._rests, MAX_BACKOFF))
        self._rests += 1

    def _rest(self, now: float, seconds: float) -> None:
        self._rests_until = max(self._rests_until, now + seconds)
        self._lone_call = None
