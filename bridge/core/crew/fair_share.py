"""How much of the common work on one crew is this process's own: runs to follow, calls to the crew."""

import math
from dataclasses import dataclass

SLACK = 20  # runs, or a tenth of a share: less than that is not worth handing over


@dataclass(frozen=True, slots=True)
class Membership:
    """Of one crew: how many processes serve it, how many runs are under way, and how many of those this one owns."""

    processes: int
    runs_in_progress: int
    own_runs: int


@dataclass(slots=True)
class FairShare:
    """One crew's share. What this process goes by until the next census; at first it is alone.

    `processes` processes serve the crew and use its rate limit together. `allowed`: how many of its runs this process
    may follow. `slack`: how far that may be above an even share.
    """

    processes: int = 1
    allowed: float = math.inf
    slack: int = SLACK

    def update(self, membership: Membership) -> int:
        """Take note of a census; gives back how many runs are to be given to others."""
        self.processes = max(1, membership.processes)
        if self.processes == 1:
            self.allowed = math.inf
            return 0
        even = math.ceil(membership.runs_in_progress / self.processes)
        self.allowed = even + max(self.slack, even // 10)
        return membership.own_runs - even if membership.own_runs > self.allowed else 0

    def capacity(self, wanted: int, tracked: int) -> int:
        """How many of `wanted` runs may be taken up when so many are followed already."""
        return int(min(wanted, max(0, self.allowed - tracked)))
