"""Commands by filter over HTTP: what matches, who may, dry runs, and what is skipped."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.errors import RequestRefused
from bridge.core.runs.commands import Abandon, Cancel, Retry
from bridge.core.runs.model import KickoffRequest, State
from tests.http_client import problem, serving


async def test_a_dry_run_only_counts():
    async with serving() as bridge:
        for state in (State.RUNNING, State.ACCEPTED, State.SUCCEEDED):
            bridge.store.add(state=state)
        bridge.store.add("triage", state=State.RUNNING)
        body = {"filter": {"crew": "research"}, "dry_run": True}
        assert await (await bridge.post("/v1/runs/cancel", body)).json() == {"matched": 2, "done": 0}
        assert bridge.others.commands == []


async def test_open_runs_that_match_are_cancelled():
    async with serving() as bridge:
        runs = [bridge.store.add(state=state) for state in (State.RUNNING, State.ACCEPTED, State.FAILED)]
        with capture_logs() as logs:
            response = await bridge.post("/v1/runs/cancel", {"filter": {"crew": "research"}, "reason": "wrong prompt"})
        assert await response.json() == {"matched": 2, "done": 2}
        assert {command[0] for command in bridge.others.commands} == {run.run_id for run in runs[:2]}
        assert {command[1:] for command in bridge.others.commands} == {(Cancel(), "client/operator")}
        assert bridge.others.reasons == ["wrong prompt"] * 2
        [audit] = [entry for entry in logs if entry["event"] == "command_audited"]
        assert (audit["filter"], audit["dry_run"], audit["reason"]) == ({"crew": "research"}, False, "wrong prompt")
        assert (audit["matched"], audit["done"]) == (2, 2)


async def test_a_client_reaches_only_the_runs_that_it_submitted():
    async with serving() as bridge:
        own, _ = bridge.store.add(), bridge.store.add(source="client/another")
        response = await bridge.post("/v1/runs/cancel", {"filter": {"crew": "research"}}, "submitter")
        assert await response.json() == {"matched": 1, "done": 1}
        assert bridge.others.commands == [(own.run_id, Cancel(), "client/submitter")]


@pytest.mark.parametrize(("action", "command"), [("retry", Retry()), ("abandon", Abandon())])
async def test_runs_in_doubt_are_resolved_alike(action: str, command: Retry | Abandon):
    async with serving() as bridge:
        doubted, _ = bridge.store.add(state=State.IN_DOUBT), bridge.store.add()
        body = {"filter": {"crew": "research"}, "action": action}
        await problem(await bridge.post("/v1/runs/resolve", body, "submitter"), 403, "forbidden")
        assert await (await bridge.post("/v1/runs/resolve", body)).json() == {"matched": 1, "done": 1}
        assert bridge.others.commands == [(doubted.run_id, command, "client/operator")]


async def test_a_run_is_retried_once_however_often_the_request_is_repeated():
    async with serving() as bridge:
        failed = bridge.store.add(state=State.FAILED, request=KickoffRequest("research", {"topic": "peat"}))
        bridge.store.add(state=State.SUCCEEDED)
        body = {"filter": {"crew": "research"}}
        assert await (await bridge.post("/v1/runs/retry", body)).json() == {"matched": 1, "done": 1}
        assert await (await bridge.post("/v1/runs/retry", body)).json() == {"matched": 1, "done": 0}
        assert [run.request.retry_of for run in bridge.store.runs.values()] == [None, None, failed.run_id]
        assert bridge.counted == [("http", "accepted"), ("http", "replayed")]


async def test_runs_that_succeeded_are_retried_only_if_the_filter_says_so():
    async with serving() as bridge:
        bridge.store.add(state=State.SUCCEEDED)
        response = await bridge.post("/v1/runs/retry", {"filter": {"state": "succeeded"}})
        assert await response.json() == {"matched": 1, "done": 1}


async def test_a_run_that_cannot_be_changed_is_skipped():
    async with serving() as bridge:
        bridge.store.add()
        bridge.others.fail = RequestRefused("run_is_over", "the run has already ended: failed")
        response = await bridge.post("/v1/runs/cancel", {"filter": {"crew": "research"}})
        assert await response.json() == {"matched": 1, "done": 0}


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("cancel", {}, "filter"),
        ("cancel", {"filter": {}}, "filter"),
        ("cancel", {"filter": {"crew": 7}}, "filter"),
        ("cancel", {"filter": {"limit": "7"}}, "limit"),
        ("cancel", {"filter": {"state": "gone"}}, "state"),
        ("cancel", {"filter": {"meta.order": ""}}, "meta.order"),
        ("cancel", {"filter": {"crew": "research"}, "dry_run": "yes"}, "dry_run"),
        ("cancel", {"filter": {"crew": "research"}, "action": "retry"}, "action"),
        ("resolve", {"filter": {"crew": "research"}, "action": "adopt"}, "action"),
        ("resolve", {"filter": {"crew": "research"}}, "action"),
    ],
)
async def test_an_invalid_body_is_refused(verb: str, body: dict[str, Any], field: str):
    async with serving() as bridge:
        bridge.store.add()
        assert (await problem(await bridge.post(f"/v1/runs/{verb}", body), 422, "invalid_request"))["field"] == field
        assert bridge.others.commands == []
