"""Detect that a crew's run times have changed: a CUSUM test (Page, 1954) on the likelihood ratio of every poll.

If nothing has changed, a poll of a run finds it ended with a known probability. The alternative hypotheses are that at
every age, runs end 8 or 2 times as often, or half or an eighth as often. A hypothesis is accepted once its cumulative
log likelihood ratio exceeds a threshold. Polls are counted, not ends, so that neither the order in which runs end nor
the runs still in progress bias the test.
"""

import math
from dataclasses import dataclass, field

_HAZARD_RATIOS = (8.0, 2.0, 0.5, 0.125)
_THRESHOLD = 8.0  # log likelihood ratio; about one false alarm in 900 runs
_MIN_PROBABILITY = 1e-6  # expected probabilities are clamped, because the ratio of a certainty is infinite


@dataclass(slots=True)
class Drift:
    """The cumulative sums of all hypotheses; `began_at`: when the sum of the accepted one began to grow."""

    sums: list[float] = field(default_factory=lambda: [0.0] * len(_HAZARD_RATIOS))
    positive_since: list[float] = field(default_factory=lambda: [math.inf] * len(_HAZARD_RATIOS))
    began_at: float = math.inf

    def observe(self, probability: float, at: float, *, ended: bool) -> bool:
        """Record a poll that should find a run ended with `probability`; return whether a change is detected."""
        expected = min(max(probability, _MIN_PROBABILITY), 1.0 - _MIN_PROBABILITY)
        for index, hazard_ratio in enumerate(_HAZARD_RATIOS):
            total = self.sums[index] + _log_likelihood_ratio(expected, hazard_ratio, ended=ended)
            if total <= 0.0:
                self.sums[index], self.positive_since[index] = 0.0, math.inf
                continue
            self.sums[index], self.positive_since[index] = total, min(self.positive_since[index], at)
            if total > _THRESHOLD:
                self.began_at = self.positive_since[index]
                return True
        return False


def _log_likelihood_ratio(probability: float, hazard_ratio: float, *, ended: bool) -> float:
    """Return the log likelihood ratio of one poll, for `hazard_ratio` times the expected hazard."""
    in_progress = math.log1p(-probability) * hazard_ratio
    return math.log(-math.expm1(in_progress) / probability) if ended else in_progress - math.log1p(-probability)
