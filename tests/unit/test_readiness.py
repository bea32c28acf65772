"""Readiness: HTTP requests can be accepted if the store is available; any other outage only degrades."""

import pytest

from bridge.core.readiness import Readiness, readiness


@pytest.mark.parametrize(
    ("store", "broker", "draining", "expected"),
    [
        (True, True, False, Readiness.READY),
        (True, False, False, Readiness.DEGRADED),
        (False, True, False, Readiness.UNAVAILABLE),
        (False, False, False, Readiness.UNAVAILABLE),
        (True, True, True, Readiness.UNAVAILABLE),
    ],
)
def test_only_the_store_decides_readiness(store: bool, broker: bool, draining: bool, expected: Readiness) -> None:
    assert readiness({"store": store, "broker_in": broker}, draining=draining) is expected
