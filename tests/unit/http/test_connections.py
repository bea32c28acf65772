"""The connection that is closed in favor of a new one."""

from bridge.core.http.limits import Connections


class Listener:
    """Connections by name; those in `busy` have a request in progress."""

    def __init__(self, most: int, most_per_address: int | None = None) -> None:
        self.busy: set[str] = set()
        self.open = Connections[str](most, most_per_address or most, lambda name: name not in self.busy)

    def add(self, *names: str, address: str = "192.0.2.1") -> list[str | None]:
        return [self.open.add(name, address) for name in names]


def test_nothing_is_closed_below_the_limits() -> None:
    assert Listener(2).add("a", "b") == [None, None]


def test_the_oldest_idle_anonymous_connection_is_closed_first() -> None:
    listener = Listener(3)
    listener.busy.add("a")
    assert listener.add("a", "b", "c", "d", "e") == [None, None, None, "b", "c"]
    assert len(listener.open) == 3


def test_an_anonymous_request_in_progress_is_closed_if_none_is_idle() -> None:
    """Otherwise endless request bodies would lock all clients out."""
    listener = Listener(2)
    listener.busy |= {"a", "b"}
    assert listener.add("a", "b", "c") == [None, None, "a"]


def test_an_authenticated_connection_is_closed_last_and_only_while_idle() -> None:
    listener = Listener(2)
    listener.add("a", "b")
    listener.open.authenticate("a")
    assert listener.add("c") == ["b"]
    listener.open.authenticate("c")
    listener.busy.add("a")
    assert listener.add("d") == ["c"]
    listener.open.authenticate("d")
    listener.busy.add("d")
    assert listener.add("e") == ["e"]
    assert len(listener.open) == 2


def test_an_address_over_its_limit_loses_its_own_connection() -> None:
    listener = Listener(10, 2)
    assert listener.add("x", address="198.51.100.1") == [None]
    assert listener.add("a", "b", "c", "d") == [None, None, "a", "b"]
    assert listener.add("y", address="198.51.100.1") == [None]


def test_authenticated_connections_do_not_count_toward_the_limit_of_their_address() -> None:
    """All clients behind a reverse proxy have one address."""
    listener = Listener(10, 2)
    for name in ("a", "b", "c"):
        assert listener.add(name) == [None]
        listener.open.authenticate(name)
        listener.open.authenticate(name)
    assert listener.add("d", "e", "f") == [None, None, "d"]


def test_a_closed_connection_makes_room() -> None:
    listener = Listener(2)
    listener.add("a", "b")
    listener.open.authenticate("b")
    listener.open.remove("a")
    listener.open.remove("b")
    listener.open.remove("b")
    assert listener.add("c", "d") == [None, None]
