"""Whether a crew may be called at all: a circuit breaker, whose being open the outside sees as a paused crew.

A wrong token, a wrong address or a used-up quota is no request's fault: the breaker opens, nothing is failed, and a
probe finds out when the crew can be used again. Then one kickoff is tried before the others follow, because a probe
cannot see a quota.
"""

from dataclasses import dataclass
from enum import StrEnum

PROBE_EVERY = 60.0  # seconds


class BreakerState(StrEnum):
    """Closed: calls pass. Open: none do. Half-open: looks pass, and one kickoff may try. Trying: it is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    TRYING = "trying"


@dataclass(slots=True)
class Breaker:
    """One crew's breaker; `opened_at` and `probe_at` in seconds since the epoch, meaningful while it is open."""

    state: BreakerState = BreakerState.CLOSED
    reason: str = ""
    opened_at: float = 0.0
    probe_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether kickoffs, looks and humans' answers wait; probes, looks after the end and `GET /inputs` do not."""
        return self.state is BreakerState.OPEN

    def capacity(self, wanted: int) -> int:
        """How many kickoffs may be started."""
        if self.state is BreakerState.CLOSED:
            return wanted
        return min(wanted, 1) if self.state is BreakerState.HALF_OPEN else 0

    def begin_trial(self, started: int) -> None:
        """So many kickoffs are about to be sent."""
        if started and self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.TRYING

    def cancel_trial(self) -> None:
        """The kickoff that was to try is not sent after all."""
        if self.state is BreakerState.TRYING:
            self.state = BreakerState.HALF_OPEN

    def trip(self, reason: str, now: float) -> bool:
        """The crew cannot be used; gives back whether that is news."""
        news = self.state is BreakerState.CLOSED
        if not self.is_open:
            self.opened_at = now
        self.state, self.reason, self.probe_at = BreakerState.OPEN, reason, now + PROBE_EVERY
        return news

    def on_kickoff_answered(self) -> bool:
        """A kickoff was not turned away; gives back whether it was the one that tried."""
        news = self.state is BreakerState.TRYING
        if news:
            self.state, self.reason = BreakerState.CLOSED, ""
        return news

    def on_probe(self, *, ok: bool, now: float) -> float:
        """What a probe found; gives back for how many seconds deadlines stood still, 0 while they still do."""
        self.probe_at = now + PROBE_EVERY
        if not ok or not self.is_open:
            return 0.0
        self.state = BreakerState.HALF_OPEN
        return now - self.opened_at
