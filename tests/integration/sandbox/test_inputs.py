"""GET /inputs lists what may be sent and, on newer deployments, what is required; a deploy changes both."""

from typing import Any

import pytest

from bridge.sandbox import SandboxSettings

from .conftest import SandboxClient, Start

MISSING = 422, {"detail": "Missing inputs: topic"}


async def kickoff(sandbox_client: SandboxClient, **inputs: Any) -> tuple[int, Any]:
    return await sandbox_client.refusal("POST", "/kickoff", json={"inputs": inputs})


@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_a_newer_deployment_requires_only_the_required_inputs(start: Start, kind: str) -> None:
    sandbox_client = await start(kind=kind, inputs=("topic", "tone"), required_inputs=("topic",))
    assert await sandbox_client.json("GET", "/inputs") == {"inputs": ["topic", "tone"], "required_inputs": ["topic"]}
    assert await kickoff(sandbox_client, tone="dry") == MISSING
    assert (await kickoff(sandbox_client, topic="tides"))[0] == 200


@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_nothing_can_be_required(start: Start, kind: str) -> None:
    sandbox_client = await start(kind=kind, required_inputs=())
    assert await sandbox_client.json("GET", "/inputs") == {"inputs": ["topic"], "required_inputs": []}
    assert (await kickoff(sandbox_client))[0] == 200


async def test_the_details_say_what_is_required(start: Start) -> None:
    sandbox_client = await start(inputs=("topic", "tone"), required_inputs=("topic",), inputs_shape="detailed")
    listed = (await sandbox_client.json("GET", "/inputs"))["inputs"]
    assert {row["name"]: row["required"] for row in listed} == {"topic": True, "tone": False}


@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_a_deploy_renames_an_input(start: Start, kind: str) -> None:
    sandbox_client = await start(kind=kind, required_inputs=("topic",))
    renamed = {"inputs": ["subject"], "required_inputs": ["subject"]}
    assert await sandbox_client.json("POST", "/_deploy", json=renamed, headers={}) == renamed
    assert await sandbox_client.json("GET", "/inputs") == renamed
    assert await kickoff(sandbox_client, topic="tides") == (422, {"detail": "Missing inputs: subject"})
    assert (await kickoff(sandbox_client, subject="tides"))[0] == 200


async def test_a_deploy_can_return_to_an_older_version(start: Start) -> None:
    sandbox_client = await start(kind="flow", required_inputs=("topic",))
    await sandbox_client.json("POST", "/_deploy", json={"inputs": ["topic"]})
    assert await sandbox_client.json("GET", "/inputs") == {"inputs": ["topic"]}
    assert (await kickoff(sandbox_client))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "{}",
        '{"inputs": "topic"}',
        '{"inputs": [7]}',
        '{"inputs": [], "required_inputs": {}}',
        '{"inputs": ["topic"], "required_inputs": ["tone"]}',
    ],
)
async def test_an_invalid_deploy_changes_nothing(start: Start, body: str) -> None:
    sandbox_client = await start()
    code, _ = await sandbox_client.refusal("POST", "/_deploy", data=body)
    assert code == 422
    assert await sandbox_client.json("GET", "/inputs") == {"inputs": ["topic"]}


def test_an_input_that_is_not_listed_cannot_be_required() -> None:
    with pytest.raises(ValueError, match="tone"):
        SandboxSettings(inputs=("topic",), required_inputs=("tone",))
