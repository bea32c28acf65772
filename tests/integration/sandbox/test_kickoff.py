"""POST /kickoff, GET /inputs, and unknown routes respond like the live API."""

import re
from typing import Any

import pytest

from .conftest import Start


async def test_a_kickoff_responds_with_200_and_only_a_uuid4(start: Start) -> None:
    sandbox_client = await start()
    code, body = await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {"topic": "tides"}})
    assert code == 200
    assert list(body) == ["kickoff_id"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", body["kickoff_id"])


async def test_two_equal_kickoffs_are_two_executions(start: Start) -> None:
    sandbox_client = await start()
    assert await sandbox_client.kickoff() != await sandbox_client.kickoff()


async def test_inputs_lists_the_names(start: Start) -> None:
    sandbox_client = await start(inputs=("audience", "topic"))
    assert await sandbox_client.json("GET", "/inputs") == {"inputs": ["audience", "topic"]}


@pytest.mark.parametrize("body", [{"topic": "bare"}, {}, {"inputs": {}}, {"inputs": None}, {"inputs": {"c": 1}}])
async def test_a_crew_refuses_missing_inputs_and_a_bare_body(start: Start, body: Any) -> None:
    sandbox_client = await start(inputs=("audience", "topic"))
    response = await sandbox_client.refusal("POST", "/kickoff", json=body)
    assert response == (422, {"detail": "Missing inputs: audience, topic"})


async def test_a_crew_names_only_missing_inputs(start: Start) -> None:
    sandbox_client = await start(inputs=("audience", "topic"))
    response = await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {"topic": "x"}})
    assert response == (422, {"detail": "Missing inputs: audience"})


async def test_extra_inputs_are_ignored(start: Start) -> None:
    sandbox_client = await start()
    assert await sandbox_client.kickoff(colour="red")


@pytest.mark.parametrize("body", [{"topic": "bare"}, {}, {"inputs": {}}])
async def test_a_flow_requires_nothing_and_drops_a_bare_body_silently(start: Start, body: Any) -> None:
    sandbox_client = await start(kind="flow")
    code, _ = await sandbox_client.refusal("POST", "/kickoff", json=body)
    assert code == 200
    assert (await sandbox_client.ledger())["kickoffs"][0]["inputs"] == {}


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b"topic=tides"])
async def test_a_body_that_is_not_json_gives_500_in_plain_text(start: Start, body: bytes) -> None:
    sandbox_client = await start()
    async with sandbox_client.call("POST", "/kickoff", data=body) as response:
        assert response.status == 500
        assert response.content_type == "text/plain"
        assert await response.text() == "Internal Server Error"


@pytest.mark.parametrize("body", [["topic"], {"inputs": ["topic"]}])
async def test_json_that_is_not_an_object_gives_422_with_a_list_of_errors(start: Start, body: Any) -> None:
    sandbox_client = await start()
    code, response = await sandbox_client.refusal("POST", "/kickoff", json=body)
    assert code == 422
    assert response["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize(("method", "path"), [("POST", "/kickoff"), ("GET", "/status/x"), ("GET", "/inputs")])
async def test_every_call_needs_the_token(start: Start, method: str, path: str) -> None:
    sandbox_client = await start()
    without = await sandbox_client.refusal(method, path, headers={})
    wrong = await sandbox_client.refusal(method, path, headers={"Authorization": "Bearer guess"})
    assert without == (401, {"detail": "Not authenticated"})
    assert wrong == (401, {"detail": "Invalid or missing authentication credentials"})


@pytest.mark.parametrize("path", ["/", "/resume/x", "/abc/status"])
async def test_the_root_and_unknown_paths_are_404_with_a_detail(start: Start, path: str) -> None:
    sandbox_client = await start()
    assert await sandbox_client.refusal("GET", path) == (404, {"detail": "Not Found"})


async def test_a_wrong_method_is_405_with_a_detail(start: Start) -> None:
    sandbox_client = await start()
    assert await sandbox_client.refusal("GET", "/kickoff") == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    "control",
    [
        {"sandbox_seconds": "soon"},
        {"sandbox_seconds": -1},
        {"sandbox_seconds": True},
        {"sandbox_seconds": "nan"},
        {"sandbox_outcome": "maybe"},
        {"sandbox_result_json": [1]},
        {"sandbox_result_json": "{"},
        {"sandbox_result_bytes": -1},
        {"sandbox_result_bytes": 10**12},
        {"sandbox_error": ""},
        {"sandbox_human_questions": True},
    ],
)
async def test_an_invalid_control_is_refused_by_name(start: Start, control: dict[str, Any]) -> None:
    sandbox_client = await start()
    code, response = await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {"topic": "x", **control}})
    assert code == 422
    assert next(iter(control)) in response["detail"]
