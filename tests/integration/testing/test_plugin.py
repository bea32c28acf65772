"""The fixtures of the pytest plugin, from synchronous and asynchronous tests."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import ClientSession, web
from standardwebhooks import Webhook

from bridge.events import RunFailed, RunInDoubt, RunSucceeded, RunWaitingForHuman, parse
from bridge.testing import CrewApi, RunningBridge, make_callback, make_event, running_bridge
from tests.web_server import web_server


class TestTheCrewApi:
    def test_results_depend_on_the_inputs(self, kickoff_bridge: RunningBridge, crew_api: CrewApi):
        crew_api.respond("Tea is a drink.", to={"topic": "tea"})
        crew_api.fail("ValueError: too hot", to={"topic": "fire"})
        tea, fire, other = (kickoff_bridge.submit({"topic": topic}) for topic in ("tea", "fire", "tides"))

        succeeded = kickoff_bridge.wait_for_event(run_id=tea)
        assert isinstance(succeeded, RunSucceeded)
        assert succeeded.data.result == "Tea is a drink."
        failed = kickoff_bridge.wait_for_event(run_id=fire)
        assert isinstance(failed, RunFailed)
        assert "ValueError: too hot" in failed.data.error.message
        assert isinstance(kickoff_bridge.wait_for_event(run_id=other), RunSucceeded)

    def test_what_it_received_is_kept(self, kickoff_bridge: RunningBridge, crew_api: CrewApi):
        run_id = kickoff_bridge.submit({"topic": "tea"}, meta={"order": 42})
        event = kickoff_bridge.wait_for_event(run_id=run_id)
        [kickoff] = crew_api.kickoffs
        assert kickoff["inputs"] == {"topic": "tea"}
        assert kickoff["kickoff_id"] == event.data.kickoff_id  # type: ignore[union-attr]
        assert crew_api.ledger()["count"] == 1

    def test_faults_are_injected(self, kickoff_bridge: RunningBridge, crew_api: CrewApi):
        crew_api.inject({"on": "kickoff", "do": "http", "code": 400, "body": {"detail": "bad body"}})
        event = kickoff_bridge.wait_for_event(run_id=kickoff_bridge.submit({"topic": "tea"}))
        assert isinstance(event, RunFailed)
        assert event.data.error.code == "refused"

    def test_a_mistake_is_reported(self, crew_api: CrewApi):
        with pytest.raises(ValueError, match="entry 1: outcome must be"):
            crew_api.script({"outcome": "maybe"})
        with pytest.raises(ValueError, match="rule 1: do must be one of"):
            crew_api.inject({"on": "kickoff", "do": "explode"})


class TestSettings:
    @pytest.fixture
    def crew_api_settings(self) -> Mapping[str, Any]:
        return {"inputs": ("title",), "human_questions": 1, "human_status": "paused"}

    @pytest.fixture
    def kickoff_bridge_settings(self) -> Mapping[str, Any]:
        clients = [{"name": "shop", "token": "a-token-of-the-shop", "roles": ["submit", "read"]}]
        return {"http": {"clients": clients}, "crews": {"triage": {"human_input": True}}}

    def test_a_fixture_changes_them(self, kickoff_bridge: RunningBridge):
        run_id = kickoff_bridge.submit({"title": "a bug"}, idempotency_key="bug-1")
        event = kickoff_bridge.wait_for_event("run.waiting_for_human", idempotency_key="bug-1")
        assert isinstance(event, RunWaitingForHuman)
        assert (event.subject, event.data.crew, kickoff_bridge.token) == (run_id, "triage", "a-token-of-the-shop")
        status, _ = kickoff_bridge.request("POST", f"/v1/runs/{run_id}/resume", {"approve": True})
        assert status == 200
        assert isinstance(kickoff_bridge.wait_for_event(run_id=run_id), RunSucceeded)
        assert kickoff_bridge.run(run_id)["state"] == "succeeded"
        assert [event.type for event in kickoff_bridge.events] == ["run.waiting_for_human", "run.succeeded"]


class TestWhatIsHardToReproduce:
    """The table of docs/testing.md."""

    @pytest.fixture
    def kickoff_bridge_settings(self) -> Mapping[str, Any]:
        return {"crews": {"research": {"in_doubt_after": "1s", "events": ["started", "progress"]}}}

    def test_a_run_in_doubt(self, kickoff_bridge: RunningBridge, crew_api: CrewApi):
        crew_api.inject({"on": "kickoff", "do": "hang_up_before"})
        run_id = kickoff_bridge.submit({"topic": "tea"})
        assert isinstance(kickoff_bridge.wait_for_event("run.in_doubt", run_id=run_id), RunInDoubt)

    def test_a_late_result(self, kickoff_bridge: RunningBridge, crew_api: CrewApi):
        crew_api.script({"seconds": 4})
        run_id = kickoff_bridge.submit({"topic": "tea"}, deadline="500ms")
        for type_ in ("run.started", "run.timed_out", "run.late_result"):
            assert kickoff_bridge.wait_for_event(type_, run_id=run_id).type == type_


class TestFromAnEventLoop:
    @pytest.fixture
    async def received(self) -> AsyncIterator[tuple[str, asyncio.Queue[Any]]]:
        """A receiver on the loop of the test."""
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def take(request: web.Request) -> web.Response:
            queue.put_nowait((dict(request.headers), await request.read()))
            return web.Response(status=204)

        async with web_server(web.post("/", take)) as url:
            yield f"{url}/", queue

    async def test_a_callback_reaches_it(self, kickoff_bridge: RunningBridge, received: tuple[str, asyncio.Queue[Any]]):
        url, queue = received
        run_id = kickoff_bridge.submit({"topic": "tea"}, callback_url=url)
        headers, body = await queue.get()
        Webhook(kickoff_bridge.callback_secret).verify(body, headers)
        event = await asyncio.to_thread(kickoff_bridge.wait_for_event, run_id=run_id)
        assert parse(body) == event
        built = make_callback(json.loads(body)).headers
        assert {name.lower() for name in built} <= {name.lower() for name in headers}

    async def test_an_asynchronous_client_uses_it(self, kickoff_bridge: RunningBridge, crew_api: CrewApi):
        crew_api.respond({"score": 8})
        request = {"crew": "research", "inputs": {"topic": "tea"}}
        async with (
            ClientSession(kickoff_bridge.url) as session,
            session.post("/v1/runs", json=request, headers={"Prefer": "wait=60"}) as response,
        ):
            assert (await response.json())["result_json"] == {"score": 8}


def test_a_refused_request_is_reported_with_its_problem(kickoff_bridge: RunningBridge):
    with pytest.raises(ValueError, match="422 missing_inputs: "):
        kickoff_bridge.submit({})


def test_an_event_that_does_not_come_is_reported_with_those_that_did(kickoff_bridge: RunningBridge):
    run_id = kickoff_bridge.submit({"topic": "tea"})
    kickoff_bridge.wait_for_event(run_id=run_id)
    with pytest.raises(TimeoutError, match=f"no run.late_result within 0 s; sent: run.succeeded of {run_id}"):
        kickoff_bridge.wait_for_event("run.late_result", run_id=run_id, within=0.0)


def test_a_run_that_ends_otherwise_is_reported_at_once_with_its_error(kickoff_bridge: RunningBridge, crew_api: CrewApi):
    crew_api.fail("ValueError: too hot")
    run_id = kickoff_bridge.submit({"topic": "fire"})
    with pytest.raises(AssertionError, match=r"no run.succeeded; sent: run.failed of .* \(execution_failed: .*too hot"):
        kickoff_bridge.wait_for_event("run.succeeded", run_id=run_id, within=600.0)


def test_settings_that_are_not_valid_are_reported_and_no_thread_is_left(crew_api: CrewApi):
    before = threading.active_count()
    with (
        pytest.raises(ValueError, match="max_running"),
        running_bridge(crew_api, {"crews": {"x": {"max_running": -1}}}),
    ):
        pass
    assert threading.active_count() == before


def test_loading_the_plugin_imports_nothing_else():
    """It is loaded in every project of an environment."""
    program = (
        "import sys, pytest; known = {*sys.modules}; import bridge.testing.plugin; print(*sys.modules.keys() - known)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == {"bridge", "bridge.testing", "bridge.testing.plugin"}


def test_everything_that_is_exported_exists():
    from bridge import testing

    assert [name for name in testing.__all__ if not hasattr(testing, name)] == []
    assert not hasattr(testing, "other")
    assert make_event()["type"] == "run.succeeded"
