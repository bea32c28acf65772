"""The open connections of one listener, and which of them yields when there are too many."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Connections(Generic[Connection]):
    """Connections by age: anonymous ones first yield to new ones, authenticated ones only while they are idle.

    `most` at once, and at most `most_per_address` anonymous ones of one address. `is_idle`: whether a connection waits
    for a request or for the rest of its head.
    """

    def __init__(self, most: int, most_per_address: int, is_idle: Callable[[Connection], bool]) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._is_idle = is_idle
        self._anonymous: dict[Connection, str] = {}
        self._by_address: dict[str, dict[Connection, None]] = {}
        self._authenticated: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._anonymous) + len(self._authenticated)

    def add(self, connection: Connection, address: str) -> Connection | None:
        """Add a connection; return the one to close if there are too many now, already removed: maybe the new one."""
        yielding: Connection | None = None
        if len(self._by_address.get(address, ())) >= self._most_per_address:
            yielding = self._oldest(self._by_address[address])
        elif len(self) >= self._most:
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
        """Count a connection no more as anonymous."""
        if connection in self._anonymous:
            self.remove(connection)
            self._authenticated[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection, if it is known."""
        self._authenticated.pop(connection, None)
        address = self._anonymous.pop(connection, None)
        if address is not None:
            del self._by_address[address][connection]
            if not self._by_address[address]:
                del self._by_address[address]

    def _oldest(self, connections: Iterable[Connection]) -> Connection | None:
        """Return the oldest idle one, else the oldest: an anonymous body that never ends must not lock others out."""
        return next(filter(self._is_idle, connections), next(iter(connections), None))
