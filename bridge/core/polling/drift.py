"""Whether a crew still behaves as its past runs say: each poll is a small bet on it.

A poll of a run that was in progress before finds it over with a known chance, if nothing has changed. Other beliefs bet
against that: that at every age runs now end twice or eight times as readily, or half or an eighth as readily. The
belief that wins more than luck explains is accepted (the cumulative sum test of Page, 1954, on the likelihood ratio).
Counted poll by poll, because then neither the order in which runs end nor those still under way can mislead it.
"""

import math
from dataclasses import dataclass, field

_READIER = (8.0, 2.0, 0.5, 0.125)
_LUCK = 8.0  # natural logarithm of the odds that count as proof; a false alarm in some nine hundred runs
_SURE = 1e-6  # no bet is on a certainty


@dataclass(slots=True)
class Drift:
    """The gains of all beliefs since they last had nothing; `began_at`: when the winner's began to grow."""

    gains: list[float] = field(default_factory=lambda: [0.0] * len(_READIER))
    grow_from: list[float] = field(default_factory=lambda: [math.inf] * len(_READIER))
    began_at: float = math.inf

    def saw(self, chance: float, at: float, *, over: bool) -> bool:
        """Record whether a poll found a run over, where `chance` was expected; return whether that proves a change."""
        expected = min(max(chance, _SURE), 1.0 - _SURE)
        for index, readier in enumerate(_READIER):
            gain = self.gains[index] + _gain(expected, readier, over=over)
            if gain <= 0.0:
                self.gains[index], self.grow_from[index] = 0.0, math.inf
                continue
            self.gains[index], self.grow_from[index] = gain, min(self.grow_from[index], at)
            if gain > _LUCK:
                self.began_at = self.grow_from[index]
                return True
        return False


def _gain(chance: float, readier: float, *, over: bool) -> float:
    """The log likelihood ratio of what was seen, for a hazard that is `readier` times the one thought."""
    still = math.log1p(-chance) * readier
    return math.log(-math.expm1(still) / chance) if over else still - math.log1p(-chance)
