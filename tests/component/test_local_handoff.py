"""The memory that handed-off deliveries may take."""

import pytest

from bridge.adapters.store import local_handoff
from bridge.adapters.store.local_handoff import LocalHandoff
from bridge.core.delivery.model import Channel
from tests.fakes import NOW, a_delivery

CHANNELS = (Channel.CALLBACK,)


def test_events_beyond_the_memory_limit_are_left_to_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_handoff, "MAX_BYTES", 10)
    handoff = LocalHandoff()
    handoff.take(CHANNELS, 9, NOW)  # a sender asks
    first, second, third = (a_delivery(number, body=b"x" * 4) for number in range(3))
    assert handoff.to_own([first, second]) == [first, second]

    for _ in range(2):  # written once more, after an unconfirmed commit
        handoff.add([first, second])
    assert handoff.to_own([third]) == []

    assert handoff.take(CHANNELS, 1, NOW) == [first]
    assert handoff.to_own([third]) == [third]

    handoff.clear()
    assert handoff.to_own([first, second]) == [first, second]
