"""Limits on what the callers of a listener may hold: connections, slots, and rates."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Connections(Generic[Connection]):
    """The open connections of one listener, oldest first; at most `max_total`, and `max_per_address` anonymous ones.

    When there are too many, anonymous connections yield first, authenticated ones only while they are idle. `is_idle`:
    whether a connection waits for a request, or for the rest of its head.
    """

    def __init__(self, max_total: int, max_per_address: int, is_idle: Callable[[Connection], bool]) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._is_idle = is_idle
        self._anonymous: dict[Connection, str] = {}
        self._by_address: dict[str, dict[Connection, None]] = {}
        self._authenticated: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._anonymous) + len(self._authenticated)

    def add(self, connection: Connection, address: str) -> Connection | None:
        """Add a connection; return the one to close, already removed, if there are too many: perhaps the new one."""
        yielding: Connection | None = None
        if len(self._by_address.get(address, ())) >= self._max_per_address:
            yielding = self._oldest(self._by_address[address])
        elif len(self) >= self._max_total:
            yielding = self._oldest(self._anonymous)
            if yielding is None:
                yielding = next(filter(self._is_idle, self._authenticated), connection)
        if yielding is connection:
            return connection
        if yielding is not None:
            self.remove(yielding)
        self._anonymous[connection] = address
        self._by_address.setdefault(address, {})[connection] = None
        return yielding

    def authenticate(self, connection: Connection) -> None:
        """Stop counting a connection as anonymous."""
        if connection in self._anonymous:
            self.remove(connection)
            self._authenticated[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection, if present."""
        self._authenticated.pop(connection, None)
        address = self._anonymous.pop(connection, None)
        if address is not None:
            del self._by_address[address][connection]
            if not self._by_address[address]:
                del self._by_address[address]

    def _oldest(self, connections: Iterable[Connection]) -> Connection | None:
        """Return the oldest idle one, otherwise the oldest: endless anonymous bodies must not lock others out."""
        return next(filter(self._is_idle, connections), next(iter(connections), None))


class Slots:
    """At most `total` slots at once. A holder may have at most half of the slots that others do not hold."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[str] = Counter()

    def take(self, holder: str, *, fairly: bool = True) -> bool:
        """Take a slot; return whether one was available. Without `fairly`, a holder may take all of them."""
        if self._free <= (self._held[holder] if fairly else 0):
            return False
        self._free -= 1
        self._held[holder] += 1
        return True

    def release(self, holder: str) -> None:
        """Release a slot."""
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: `per_second` on average, `burst` at once after a pause."""

    per_second: float
    burst: float


@dataclass(slots=True)
class Bucket:
    """A token bucket; `at` is the last refill, in seconds of a monotonic clock."""

    tokens: float
    at: float

    def take(self, rate: Rate, now: float) -> float:
        """Take a token and return 0.0; if there is none, return the seconds until there will be one."""
        self.tokens = min(rate.burst, self.tokens + (now - self.at) * rate.per_second)
        self.at = now
        if self.tokens < 1.0:
            return (1.0 - self.tokens) / rate.per_second
        self.tokens -= 1.0
        return 0.0


class Buckets:
    """One token bucket per name, for at most `max_names`; those idle longest, which are full again, are dropped."""

    def __init__(self, rate: Rate, max_names: int) -> None:
        self._rate = rate
        self._max_names = max_names
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> float:
        """Take a token from the bucket of a name, as `Bucket.take`."""
        bucket = self._buckets.pop(name, None) or Bucket(self._rate.burst, now)
        self._buckets[name] = bucket
        if len(self._buckets) > self._max_names:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(self._rate, now)
