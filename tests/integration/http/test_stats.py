"""Statistics over HTTP: the ends of runs by minute, counted once for all callers while a minute is over."""

from bridge.core.delivery.events import timestamp
from tests.http_client import problem, serving

NOW = 1_700_000_000.0 // 60 * 60


async def test_the_ends_of_the_last_hour_are_returned_by_minute():
    async with serving() as bridge:
        bridge.store.ended = {NOW - 120: {("research", "succeeded"): 3, ("triage", "failed"): 1}}
        response = await (await bridge.get("/v1/stats")).json()
        narrow = await (await bridge.get("/v1/stats", "narrow")).json()
    assert response == {
        "since": timestamp(NOW - 59 * 60),
        "minutes": [
            {"minute": timestamp(NOW - 120), "crew": "research", "state": "succeeded", "count": 3},
            {"minute": timestamp(NOW - 120), "crew": "triage", "state": "failed", "count": 1},
        ],
    }
    assert narrow["minutes"] == response["minutes"][:1]


async def test_minutes_that_are_over_are_not_read_again():
    async with serving() as bridge:
        bridge.store.ended = {NOW - 180: {("research", "failed"): 1}}
        first = await (await bridge.get("/v1/stats")).json()
        again = await (await bridge.get(f"/v1/stats?since={timestamp(NOW - 180)}")).json()
    assert [len(minutes) for minutes in bridge.store.minutes] == [60, 2]
    assert bridge.store.minutes[1] == [NOW - 60, NOW]
    assert again["minutes"] == first["minutes"]


async def test_no_more_than_a_day_is_counted():
    async with serving() as bridge:
        await problem(await bridge.get("/v1/stats?since=yesterday"), 422, "invalid_request")
        for since, first, minutes in ((NOW - 2 * 86_400, NOW - 1439 * 60, 1440), (NOW + 3600, NOW + 3600, 0)):
            response = await (await bridge.get(f"/v1/stats?since={timestamp(since)}")).json()
            assert response["since"] == timestamp(first)
            assert len(bridge.store.minutes[-1]) == minutes


async def test_the_role_submit_is_not_enough():
    async with serving() as bridge:
        await problem(await bridge.get("/v1/stats", "submitter"), 403, "forbidden")
