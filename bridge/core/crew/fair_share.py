"""How much of the common work on one crew is this process's own: runs to follow, calls to the crew."""

import math
from dataclasses import dataclass

SLACK = 20  # runs, or a tenth of a share: less than that is not worth handing over


@dataclass(frozen=True, slots=True)
class Census:
    """Of one crew: how many processes serve it, how many runs are under way, and how many of those this one owns."""

    living: int
    under_way: int
    mine: int


@dataclass(slots=True)
class Share:
    """One crew's share. What this process goes by until the next census; at first it is alone.

    `living` processes serve the crew and use its rate limit together. `allowed`: how many of its runs this process may
    follow. `slack`: how far that may be above an even share.
    """

    living: int = 1
    allowed: float = math.inf
    slack: int = SLACK

    def update(self, census: Census) -> int:
        """Take note of a census; gives back how many runs are to be given to others."""
        self.living = max(1, census.living)
        if self.living == 1:
            self.allowed = math.inf
            return 0
        even = math.ceil(census.under_way / self.living)
        self.allowed = even + max(self.slack, even // 10)
        return census.mine - even if census.mine > self.allowed else 0

    def room(self, wanted: int, tracker: int) -> int:
        """How many of `wanted` runs may be taken up when so many are followed already."""
        return int(min(wanted, max(0, self.allowed - tracker)))
