"""Receivers of callbacks in every mood (M15), with a whole daemon before them.

What is not called at all is tested by `tests/integration/callbacks/test_forbidden_addresses.py`, bad certificates by
`tests/integration/callbacks/test_tls.py`, the whole schedule by `tests/unit`: here there is time for two attempts.
"""

from urllib.parse import quote

import pytest

from tests.patience import PATIENCE
from tests.system.faults.conftest import SetScene
from tests.system.faults.faulty_receiver import GONE, MOODS, TAKEN, moody
from tests.system.faults.harness import requests

pytestmark = pytest.mark.timeout(1800)


async def test_an_event_reaches_a_receiver_in_any_mood(scene: SetScene, full: bool) -> None:
    """M15: taken at the first attempt or the second one, always the same bytes, and no redirect is followed."""
    each = 20 if full else 1
    async with moody() as receiver, scene("M15") as now:
        await now.victim.start()
        moods = [mood for mood in MOODS if full or mood != "silent"] * each  # which takes fifteen seconds
        wanted = requests(len(moods))
        for request, mood in zip(wanted, moods, strict=True):
            request["callback_url"] = f"{receiver.url}/{quote(mood)}"
        now.tally.faults = len(moods)
        await now.publish(wanted)
        await now.come_to_rest(within=1200 if full else PATIENCE)
        await now.apply()
        _, dead = await now.victim.get("/v1/deliveries?state=dead&limit=200")

    assert receiver.trapped == 0
    assert {len(bodies) for bodies in receiver.bodies.values()} == {1}
    assert len(receiver.calls) == len(moods)
    for (mood, _), calls in receiver.calls.items():
        assert calls == (1 if mood in TAKEN + GONE else 2), mood
    assert len(dead["deliveries"]) == each * len(GONE)
