"""Crews over HTTP: names, availability, and inputs."""

from bridge.core.runs.model import Outcome, RunError, State
from tests.http_client import STORE_AWAY, problem, serving

NO_RUNS = dict.fromkeys(("accepted", "starting", "running", "in_doubt", "waiting_for_human"), 0)
RESEARCH = {
    "name": "research",
    "kind": "crew",
    "paused": None,
    "runs": {**NO_RUNS, "running": 3},
    "slots": {"used": 3, "limit": 16},
    "budget": {"used": 5, "runs": 10, "per": 60.0},
    "request_rate": {"now": 20.0, "limit": 20.0},
    "polls_overdue": 1,
    "run_times": None,
}


async def test_crews_are_listed_with_their_runs_and_the_reason_of_a_pause():
    async with serving() as bridge:
        response = await (await bridge.get("/v1/crews")).json()
    assert response["crews"][0] == RESEARCH
    assert {name: response["crews"][1][name] for name in ("paused", "runs", "slots", "budget")} == {
        "paused": "HTTP 401",
        "runs": NO_RUNS,
        "slots": {"used": 0, "limit": 4},
        "budget": None,
    }


async def test_without_the_role_read_or_the_store_the_runs_of_a_crew_are_not_counted():
    uncounted = {**RESEARCH, "runs": None, "slots": None, "budget": None}
    async with serving() as bridge:
        assert (await (await bridge.get("/v1/crews", "submitter")).json())["crews"][0] == uncounted
        bridge.store.fail = STORE_AWAY
        assert (await (await bridge.get("/v1/crews")).json())["crews"][0] == uncounted


async def test_one_crew_is_shown_with_its_settings_and_recent_failures():
    async with serving() as bridge:
        failed = [
            bridge.store.add(state=state, outcome=Outcome(error=RunError("lost", "no trace")))
            for state in (State.FAILED, State.TIMED_OUT, State.FAILED)
        ]
        bridge.store.add(state=State.SUCCEEDED)
        bridge.store.add("triage", state=State.FAILED)
        response = await (await bridge.get("/v1/crews/research")).json()
    assert [run["run_id"] for run in response.pop("recent_failures")] == [run.run_id for run in reversed(failed)]
    assert response == {**RESEARCH, "settings": {"kind": "crew"}}


async def test_a_client_sees_only_its_own_failures():
    async with serving() as bridge:
        bridge.store.add(source="client/other", state=State.FAILED)
        own = bridge.store.add(state=State.FAILED)
        response = await (await bridge.get("/v1/crews/research", "submitter")).json()
        await problem(await bridge.get("/v1/crews/triage", "narrow"), 404, "unknown_crew")
    assert [run["run_id"] for run in response["recent_failures"]] == [own.run_id]


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
