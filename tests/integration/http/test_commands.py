"""Commands over HTTP: authorization, parsing, and responses."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.errors import CrewUnreachable, PostInProgress, RequestRefused
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.commands import Abandon, Adopt, Cancel, Retry, RunCommand
from bridge.core.runs.model import KickoffRequest, State
from bridge.core.runs.request import fingerprint
from tests.http_client import bearer, problem, serving


async def test_a_producer_cancels_its_own_run():
    async with serving() as bridge:
        run = bridge.store.add()
        response = await bridge.post(f"/v1/runs/{run.run_id}/cancel", name="submitter")
        assert response.status == 200
        assert (await response.json())["run_id"] == run.run_id
        assert bridge.others.commands == [(run.run_id, Cancel(), "client/submitter")]


async def test_a_run_invisible_to_the_client_is_not_found():
    async with serving() as bridge:
        run = bridge.store.add(source="client/another")
        await problem(await bridge.post(f"/v1/runs/{run.run_id}/cancel", name="submitter"), 404, "unknown_run")
        assert bridge.others.commands == []


async def test_a_retry_is_a_new_run_that_names_the_old_one():
    async with serving() as bridge:
        request = KickoffRequest("research", {"topic": "peat"}, {"order": 42}, idempotency_key="order-42")
        old = bridge.store.add(state=State.FAILED, request=request)
        path, key = f"/v1/runs/{old.run_id}/retry", {"Idempotency-Key": "again"}
        response = await bridge.post(path, name="submitter", headers=key)
        shown = await response.json()
        assert (response.status, shown["retry_of"], shown["idempotency_key"]) == (202, old.run_id, "again")
        assert [warning["code"] for warning in shown["warnings"]] == ["paid_again"]
        assert response.headers["Location"] == f"/v1/runs/{shown['run_id']}"
        [(asked, envelope)] = bridge.accept.seen
        assert (asked.inputs, asked.meta, envelope.correlation_id) == (request.inputs, request.meta, "order-42")
        with capture_logs() as logs:
            again = await bridge.post(path, name="submitter", headers=key)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert await again.json() == shown
        [audit] = [line for line in logs if line["event"] == "command_audited"]
        assert (audit["run_id"], audit["retried_as"]) == (old.run_id, shown["run_id"])
        assert bridge.counted == [("http", "accepted"), ("http", "replayed")]


async def test_the_key_of_the_old_run_does_not_stand_for_its_retry():
    async with serving() as bridge:
        request = KickoffRequest("research", {}, idempotency_key="order-42")
        old = bridge.store.add(state=State.FAILED, request=request, fingerprint=fingerprint(request))
        response = await bridge.post(f"/v1/runs/{old.run_id}/retry", headers={"Idempotency-Key": "order-42"})
        await problem(response, 422, "idempotency_conflict")


async def test_only_an_ended_run_is_retried_and_only_by_its_client_or_an_operator():
    async with serving() as bridge:
        running, ended = bridge.store.add(state=State.RUNNING), bridge.store.add(state=State.CANCELLED)
        await problem(await bridge.post(f"/v1/runs/{running.run_id}/retry", name="submitter"), 409, "run_not_ended")
        await problem(await bridge.post(f"/v1/runs/{ended.run_id}/retry", name="reader"), 403, "forbidden")
        assert (await bridge.post(f"/v1/runs/{ended.run_id}/retry")).status == 202


@pytest.mark.parametrize(("name", "status", "code"), [(None, 401, "unauthorized"), ("reader", 403, "forbidden")])
async def test_clients_that_may_not_cancel(name: str | None, status: int, code: str):
    async with serving() as bridge:
        run = bridge.store.add()
        await problem(await bridge.post(f"/v1/runs/{run.run_id}/cancel", name=name), status, code)


@pytest.mark.parametrize("name", ["submitter", "reader"])
async def test_only_operators_resolve(name: str):
    async with serving() as bridge:
        run = bridge.store.add()
        response = await bridge.post(f"/v1/runs/{run.run_id}/resolve", {"action": "retry"}, name)
        await problem(response, 403, "forbidden")


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"action": "retry"}, Retry()),
        ({"action": "abandon"}, Abandon()),
        ({"action": "adopt", "kickoff_id": "k-1"}, Adopt("k-1")),
        ({"action": "adopt", "kickoff_id": "k-1", "force": True}, Adopt("k-1", force=True)),
    ],
)
async def test_decisions_of_an_operator(body: dict[str, Any], command: RunCommand):
    async with serving() as bridge:
        run = bridge.store.add()
        assert (await bridge.post(f"/v1/runs/{run.run_id}/resolve", body)).status == 200
        assert bridge.others.commands == [(run.run_id, command, "client/operator")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "explode"}, "action"),
        ({"action": "adopt"}, "kickoff_id"),
        ({"action": "adopt", "kickoff_id": 7}, "kickoff_id"),
        ({"action": "retry", "kickoff_id": "k-1"}, "kickoff_id"),
        ({"action": "retry", "why": "x"}, "why"),
        ({"action": "retry", "force": True}, "force"),
        ({"action": "adopt", "kickoff_id": "k-1", "force": "yes"}, "force"),
    ],
)
async def test_an_invalid_decision_names_the_field(body: dict[str, Any], field: str):
    async with serving() as bridge:
        run = bridge.store.add()
        response = await bridge.post(f"/v1/runs/{run.run_id}/resolve", body)
        assert (await problem(response, 422, "invalid_request"))["field"] == field


async def test_during_a_post_the_client_is_asked_to_retry():
    async with serving() as bridge:
        run = bridge.store.add()
        bridge.others.fail = PostInProgress("run-1", {})
        response = await bridge.post(f"/v1/runs/{run.run_id}/cancel")
        await problem(response, 409, "post_in_progress")
        assert response.headers["Retry-After"] == "5"


async def test_while_the_crew_is_unavailable_the_client_is_asked_to_retry():
    async with serving() as bridge:
        run = bridge.store.add()
        bridge.others.fail = CrewUnreachable("the crew API does not say whether it knows this execution")
        response = await bridge.post(f"/v1/runs/{run.run_id}/resolve", {"action": "adopt", "kickoff_id": "k-1"})
        await problem(response, 503, "service_unavailable")
        assert response.headers["Retry-After"] == "5"


@pytest.mark.parametrize("code", ["not_in_doubt", "unknown_execution", "run_is_over"])
async def test_a_late_command_is_a_conflict(code: Any):
    async with serving() as bridge:
        run = bridge.store.add()
        bridge.others.fail = RequestRefused(code, "too late")
        await problem(await bridge.post(f"/v1/runs/{run.run_id}/cancel"), 409, code)


async def test_held_runs_are_released_one_or_all():
    async with serving() as bridge:
        run = bridge.store.add()
        for body in ({"run_id": run.run_id, "reason": "it had not run"}, None):
            assert await (await bridge.post("/v1/runs/release", body)).json() == {"released": 3}
        await problem(await bridge.post("/v1/runs/release", {"run_id": "x"}), 404, "unknown_run")
    assert [(one[0], one[2]) for one in bridge.store.released] == [
        (run.run_id, "client/operator"),
        (None, "client/operator"),
    ]


async def test_commands_are_logged_with_client_and_reason():
    """A refused attempt is logged as well, and never the token."""
    async with serving() as bridge:
        run = bridge.store.add()
        with capture_logs() as logs:
            await bridge.post(f"/v1/runs/{run.run_id}/cancel", {"reason": "ordered twice"})
            await bridge.post(f"/v1/runs/{run.run_id}/cancel", name="submitter")
            bridge.others.fail = RequestRefused("not_in_doubt", "no")
            await bridge.post(f"/v1/runs/{run.run_id}/resolve", {"action": "retry"})
    audit = [line for line in logs if line["event"] == "command_audited"]
    assert [(line["client"], line["action"], line["reason"], line["outcome"]) for line in audit] == [
        ("operator", "POST /v1/runs/{run_id}/cancel", "ordered twice", 200),
        ("submitter", "POST /v1/runs/{run_id}/cancel", "", 200),
        ("operator", "POST /v1/runs/{run_id}/resolve", "", "not_in_doubt"),
    ]
    assert {line["target"]["run_id"] for line in audit} == {run.run_id}
    assert bridge.others.reasons == ["ordered twice", None]


@pytest.mark.parametrize(
    ("body", "field"), [({"reason": 7}, "reason"), ({"reason": "x" * 501}, "reason"), ({"a": 1}, "a")]
)
async def test_a_cancel_command_is_parsed_strictly(body: dict[str, Any], field: str):
    async with serving() as bridge:
        run = bridge.store.add()
        response = await bridge.post(f"/v1/runs/{run.run_id}/cancel", body)
        assert (await problem(response, 422, "invalid_request"))["field"] == field
        assert bridge.others.commands == []


async def test_a_producer_answers_the_question_of_its_own_run():
    async with serving() as bridge:
        run = bridge.store.add()
        body = {"feedback": "Use the cheaper one.", "approve": False, "task_id": "t-1"}
        assert (await bridge.post(f"/v1/runs/{run.run_id}/resume", body, "submitter")).status == 200
        command = Resume("Use the cheaper one.", approve=False, task_id="t-1")
        assert bridge.others.commands == [(run.run_id, command, "client/submitter")]


async def test_a_repeated_answer_with_the_same_key_is_the_same():
    async with serving() as bridge:
        run = bridge.store.add()
        url, headers = bridge.url(f"/v1/runs/{run.run_id}/resume"), {**bearer("operator"), "Idempotency-Key": "a-1"}
        async with bridge.http.post(url, json={"approve": True}, headers=headers) as response:
            assert response.status == 200
        assert bridge.others.commands[0][1] == Resume(approve=True, key="client/operator a-1")


@pytest.mark.parametrize(
    ("source", "name", "status", "code"),
    [
        ("client/another", "submitter", 404, "unknown_run"),
        ("client/submitter", "reader", 403, "forbidden"),
        ("client/submitter", None, 401, "unauthorized"),
    ],
)
async def test_clients_that_may_not_answer(source: str, name: str | None, status: int, code: str):
    async with serving() as bridge:
        run = bridge.store.add(source=source)
        await problem(await bridge.post(f"/v1/runs/{run.run_id}/resume", {"approve": True}, name), status, code)
        assert bridge.others.commands == []


async def test_a_late_answer_is_a_conflict():
    async with serving() as bridge:
        run = bridge.store.add()
        bridge.others.fail = RequestRefused("not_waiting", "too late")
        await problem(await bridge.post(f"/v1/runs/{run.run_id}/resume", {"approve": True}), 409, "not_waiting")
