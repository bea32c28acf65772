"""The fair share of one process in the work on a crew: runs to track, calls to the crew API."""

import math
from dataclasses import dataclass

SLACK = 20  # runs, or a tenth of a share; a smaller excess is not worth a handover


@dataclass(frozen=True, slots=True)
class Membership:
    """Of one crew: the processes that serve it, its runs in progress, and how many of those this process owns."""

    processes: int
    runs_in_progress: int
    own_runs: int


@dataclass(slots=True)
class FairShare:
    """The share of this process in one crew, as of the last membership update; before the first, it is alone.

    `processes`: the number that serve the crew and divide its rate limit. `allowed`: how many of its runs this process
    may track. `slack`: by how many runs that may exceed an even share.
    """

    processes: int = 1
    allowed: float = math.inf
    slack: int = SLACK

    def update(self, membership: Membership) -> int:
        """Apply a membership; return how many runs to release to other processes."""
        self.processes = max(1, membership.processes)
        if self.processes == 1:
            self.allowed = math.inf
            return 0
        even = math.ceil(membership.runs_in_progress / self.processes)
        self.allowed = even + max(self.slack, even // 10)
        return membership.own_runs - even if membership.own_runs > self.allowed else 0

    def capacity(self, wanted: int, tracked: int) -> int:
        """Return how many of `wanted` runs may be claimed while `tracked` runs are tracked."""
        return int(min(wanted, max(0, self.allowed - tracked)))
