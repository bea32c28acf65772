"""How often something may happen: a bucket of tokens that refills at a steady rate."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` on the average; `burst` at once after a pause."""

    per_second: float
    burst: float


@dataclass(slots=True)
class Bucket:
    """What is left of one holder's rate; `at` is in seconds of any clock that never goes back."""

    tokens: float
    at: float

    def take(self, rate: Rate, now: float) -> float:
        """Take one token: 0.0 if there was one, else the seconds until there will be, and nothing is taken."""
        self.tokens = min(rate.burst, self.tokens + (now - self.at) * rate.per_second)
        self.at = now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) / rate.per_second
        self.tokens -= 1.0
        return 0.0


class Buckets:
    """One bucket per name; the names that were idle longest are forgotten, since their buckets are full again."""

    def __init__(self, rate: Rate, most: int) -> None:
        """`most`: how many names are remembered."""
        self._rate = rate
        self._most = most
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> float:
        """As `Bucket.take`, from this name's bucket."""
        bucket = self._buckets.pop(name, None) or Bucket(self._rate.burst, now)
        self._buckets[name] = bucket
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(self._rate, now)
