"""A circuit breaker per crew; an open breaker is reported as a paused crew.

A wrong token, a wrong address, or an exhausted quota is not the fault of a request: the breaker opens, no run fails,
and a probe detects when the crew works again. Then one kickoff goes first, because a probe cannot see a quota.
"""

from dataclasses import dataclass
from enum import StrEnum

PROBE_INTERVAL = 60.0  # seconds


class BreakerState(StrEnum):
    """Closed: calls pass. Open: none do. Half-open: polls and a trial kickoff pass. Trying: a trial is running."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    TRYING = "trying"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a crew: why (`HTTP 401`) and since when. `probed`: calls pass again, but only one kickoff so far."""

    reason: str
    since: float
    probed: bool


@dataclass(slots=True)
class Breaker:
    """One crew's breaker. `opened_at` and `probe_at` in seconds since the epoch, meaningful while it is open.

    `paused_at`: since when it has not been closed.
    """

    state: BreakerState = BreakerState.CLOSED
    reason: str = ""
    paused_at: float = 0.0
    opened_at: float = 0.0
    probe_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether kickoffs, polls, and human input wait; probes, polls of ended runs, and `GET /inputs` do not."""
        return self.state is BreakerState.OPEN

    @property
    def pause(self) -> Pause | None:
        """The pause, until a kickoff has found the crew available; None while the breaker is closed."""
        closed = self.state is BreakerState.CLOSED
        return None if closed else Pause(self.reason, self.paused_at, probed=not self.is_open)

    def capacity(self, wanted: int) -> int:
        """Return how many of `wanted` kickoffs may be started."""
        if self.state is BreakerState.CLOSED:
            return wanted
        return min(wanted, 1) if self.state is BreakerState.HALF_OPEN else 0

    def begin_trial(self, started: int) -> None:
        """Record that kickoffs are about to be sent; in the half-open state, this is the trial."""
        if started and self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.TRYING

    def cancel_trial(self) -> None:
        """Record that the trial kickoff is not sent after all."""
        if self.state is BreakerState.TRYING:
            self.state = BreakerState.HALF_OPEN

    def trip(self, reason: str, now: float) -> bool:
        """Open the breaker; return whether it was closed."""
        opened = self.state is BreakerState.CLOSED
        if opened:
            self.paused_at = now
        if not self.is_open:
            self.opened_at = now
        self.state, self.reason, self.probe_at = BreakerState.OPEN, reason, now + PROBE_INTERVAL
        return opened

    def on_kickoff_answered(self) -> bool:
        """Record a kickoff that found the crew available; return whether it was the trial, which closes the breaker."""
        trial = self.state is BreakerState.TRYING
        if trial:
            self.state, self.reason = BreakerState.CLOSED, ""
        return trial

    def on_probe(self, *, ok: bool, now: float) -> float:
        """Record the result of a probe; return the seconds by which deadlines move, 0 while the breaker stays open."""
        self.probe_at = now + PROBE_INTERVAL
        if not ok or not self.is_open:
            return 0.0
        self.state = BreakerState.HALF_OPEN
        return now - self.opened_at
