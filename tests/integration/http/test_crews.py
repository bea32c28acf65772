"""Crews over HTTP: names, availability, and inputs."""

from tests.http_client import problem, serving


async def test_crews_are_listed_with_the_reason_of_a_pause():
    async with serving() as bridge:
        response = await (await bridge.get("/v1/crews")).json()
    assert response == {
        "crews": [
            {"name": "research", "kind": "crew", "paused": None, "run_times": None},
            {"name": "triage", "kind": "flow", "paused": "HTTP 401", "run_times": None},
        ]
    }


async def test_a_client_sees_only_its_crews():
    async with serving() as bridge:
        response = await (await bridge.get("/v1/crews", "narrow")).json()
        await problem(await bridge.get("/v1/crews/triage/inputs", "narrow"), 404, "unknown_crew")
    assert [crew["name"] for crew in response["crews"]] == ["research"]


async def test_the_inputs_of_a_crew_are_returned_with_the_required_ones():
    async with serving() as bridge:
        response = await bridge.get("/v1/crews/research/inputs", "submitter")
        assert await response.json() == {"crew": "research", "inputs": ["topic", "tone"], "required": ["topic"]}


async def test_without_a_response_of_the_crew_the_client_is_asked_to_retry():
    async with serving() as bridge:
        bridge.others.inputs = None
        response = await bridge.get("/v1/crews/research/inputs")
        await problem(response, 503, "service_unavailable")
        assert response.headers["Retry-After"] == "10"


async def test_an_unknown_crew_is_not_found():
    async with serving() as bridge:
        await problem(await bridge.get("/v1/crews/unknown/inputs"), 404, "unknown_crew")
