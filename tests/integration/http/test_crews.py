"""Crews over HTTP: names, whether they can be used, what they take."""

from tests.http_client import problem, serving


async def test_crews_are_listed_with_what_keeps_them_from_being_used():
    async with serving() as bridge:
        answer = await (await bridge.get("/v1/crews")).json()
    assert answer == {
        "crews": [
            {"name": "research", "kind": "crew", "paused": None, "run_times": None},
            {"name": "triage", "kind": "flow", "paused": "HTTP 401", "run_times": None},
        ]
    }


async def test_a_client_sees_only_the_crews_that_it_may_use():
    async with serving() as bridge:
        answer = await (await bridge.get("/v1/crews", "narrow")).json()
        await problem(await bridge.get("/v1/crews/triage/inputs", "narrow"), 404, "unknown_crew")
    assert [crew["name"] for crew in answer["crews"]] == ["research"]


async def test_the_inputs_of_a_crew_are_told():
    async with serving() as bridge:
        response = await bridge.get("/v1/crews/research/inputs", "submitter")
        assert await response.json() == {"crew": "research", "inputs": ["topic"]}


async def test_a_crew_that_does_not_tell_its_inputs_is_asked_for_later():
    async with serving() as bridge:
        bridge.others.inputs = None
        response = await bridge.get("/v1/crews/research/inputs")
        await problem(response, 503, "service_unavailable")
        assert response.headers["Retry-After"] == "10"


async def test_an_unknown_crew_is_told_apart():
    async with serving() as bridge:
        await problem(await bridge.get("/v1/crews/nobody/inputs"), 404, "unknown_crew")
