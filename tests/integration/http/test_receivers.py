"""Receivers over HTTP: list failing ones, resume paused ones."""

from typing import Any

import pytest

from bridge.core.delivery.model import Receiver
from tests.http_client import problem, serving

FAILING = Receiver("https://a.example:443", 1_700_000_000.0)
PAUSED = Receiver("https://b.example:443", 1_700_000_000.0, 1_700_000_001.0)


async def test_failing_and_paused_receivers_are_listed():
    async with serving() as bridge:
        bridge.store.receivers = [FAILING, PAUSED]
        since = "2023-11-14T22:13:20.000Z"
        assert (await (await bridge.get("/v1/receivers")).json())["receivers"] == [
            {"receiver": FAILING.name, "failing_since": since, "paused_at": None},
            {"receiver": PAUSED.name, "failing_since": since, "paused_at": "2023-11-14T22:13:21.000Z"},
        ]
        await problem(await bridge.get("/v1/receivers", "reader"), 403, "forbidden")


@pytest.mark.parametrize(
    ("body", "resumed"),
    [({"all": True}, 1), ({"receiver": PAUSED.name, "reason": "repaired"}, 1), ({"receiver": FAILING.name}, 0)],
)
async def test_paused_receivers_are_resumed(body: dict[str, Any], resumed: int):
    async with serving() as bridge:
        bridge.store.receivers = [FAILING, PAUSED]
        assert await (await bridge.post("/v1/receivers/resume", body)).json() == {"resumed": resumed}
        assert bridge.notified.is_set()


@pytest.mark.parametrize("body", [{}, {"all": False}, {"all": True, "receiver": "x"}, {"all": 1}, {"receiver": 7}])
async def test_an_invalid_body_is_refused(body: dict[str, Any]):
    async with serving() as bridge:
        await problem(await bridge.post("/v1/receivers/resume", body), 422, "invalid_request")
