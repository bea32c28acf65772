"""Receivers of callbacks with every fault (M15), with a complete daemon.

Forbidden addresses are tested in `tests/integration/callbacks/test_forbidden_addresses.py`, invalid certificates in
`tests/integration/callbacks/test_tls.py`, the whole schedule in `tests/unit`: here there is time for two attempts.
"""

from urllib.parse import quote

import pytest

from tests.patience import PATIENCE
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.faulty_receiver import GONE, RECEIVER_FAULTS, TAKEN, faulty_receiver
from tests.system.faults.harness import requests

pytestmark = pytest.mark.timeout(1800)


async def test_an_event_reaches_a_receiver_with_any_fault(open_scenario: OpenScenario, full: bool) -> None:
    """M15: accepted at the first or the second attempt, always the same bytes, and no redirect is followed."""
    each = 20 if full else 1
    async with faulty_receiver() as receiver, open_scenario("M15") as scenario:
        await scenario.daemon.start()
        faults = [fault for fault in RECEIVER_FAULTS if full or fault != "silent"] * each  # which takes fifteen seconds
        requested = requests(len(faults))
        for request, fault in zip(requested, faults, strict=True):
            request["callback_url"] = f"{receiver.url}/{quote(fault)}"
        scenario.tally.faults = len(faults)
        await scenario.publish(requested)
        await scenario.come_to_rest(within=1200 if full else PATIENCE)
        await scenario.apply()
        _, dead = await scenario.daemon.get("/v1/deliveries?state=dead&limit=200")

    assert receiver.trapped == 0
    assert {len(bodies) for bodies in receiver.bodies.values()} == {1}
    assert len(receiver.calls) == len(faults)
    for (fault, _), calls in receiver.calls.items():
        assert calls == (1 if fault in TAKEN + GONE else 2), fault
    assert len(dead["deliveries"]) == each * len(GONE)
