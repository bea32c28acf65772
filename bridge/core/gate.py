"""Whether a crew may be called at all.

A wrong token, a wrong address or a used-up quota is no request's fault: the crew is closed, nothing is failed, and a
probe finds out when it can be used again. Then one kickoff is tried before the others follow, because a probe cannot
see a quota.
"""

from dataclasses import dataclass
from enum import StrEnum

PROBE_EVERY = 60.0  # seconds


class GateState(StrEnum):
    """Open: call. Closed: wait. Ajar: one kickoff may try. Trying: it is under way."""

    OPEN = "open"
    CLOSED = "closed"
    AJAR = "ajar"
    TRYING = "trying"


@dataclass(slots=True)
class Gate:
    """One crew's gate; `closed_at` and `probe_at` in seconds since the epoch, meaningful while it is closed."""

    state: GateState = GateState.OPEN
    reason: str = ""
    closed_at: float = 0.0
    probe_at: float = 0.0

    @property
    def closed(self) -> bool:
        """Whether kickoffs, looks and humans' answers wait; probes, looks after the end and `GET /inputs` do not."""
        return self.state is GateState.CLOSED

    def room(self, wanted: int) -> int:
        """How many kickoffs may be started."""
        if self.state is GateState.OPEN:
            return wanted
        return min(wanted, 1) if self.state is GateState.AJAR else 0

    def take(self, started: int) -> None:
        """So many kickoffs are about to be sent."""
        if started and self.state is GateState.AJAR:
            self.state = GateState.TRYING

    def give_back(self) -> None:
        """The kickoff that was to try is not sent after all."""
        if self.state is GateState.TRYING:
            self.state = GateState.AJAR

    def close(self, reason: str, now: float) -> bool:
        """The crew cannot be used; gives back whether that is news."""
        news = self.state is GateState.OPEN
        if not self.closed:
            self.closed_at = now
        self.state, self.reason, self.probe_at = GateState.CLOSED, reason, now + PROBE_EVERY
        return news

    def answered(self) -> bool:
        """A kickoff was not turned away; gives back whether the crew was not open before."""
        news = self.state is GateState.TRYING
        if news:
            self.state, self.reason = GateState.OPEN, ""
        return news

    def probed(self, *, ok: bool, now: float) -> float:
        """What a probe found; gives back for how many seconds deadlines stood still, 0 while they still do."""
        self.probe_at = now + PROBE_EVERY
        if not ok or not self.closed:
            return 0.0
        self.state = GateState.AJAR
        return now - self.closed_at
