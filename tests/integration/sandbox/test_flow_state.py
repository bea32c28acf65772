"""A flow returns its state, continues from an earlier one, and does not say whether it did."""

from typing import Any

import pytest

from .conftest import SandboxClient, Start

STATE_ID = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"


async def result(sandbox_client: SandboxClient, kickoff_id: str) -> Any:
    sandbox_client.clock.forward(2)
    status = await sandbox_client.status(kickoff_id)
    assert status["result_json"] == status["result"]
    return status["result"]


async def restored(sandbox_client: SandboxClient, state_id: str, **inputs: Any) -> Any:
    """The result of a flow that restores this state."""
    body = {"inputs": inputs, "restoreFromStateId": state_id}
    kickoff_id = (await sandbox_client.json("POST", "/kickoff", json=body))["kickoff_id"]
    return await result(sandbox_client, kickoff_id)


async def test_the_result_of_a_flow_is_an_object_and_repeated(start: Start) -> None:
    sandbox_client = await start(kind="flow")
    kickoff_id = await sandbox_client.kickoff(count=3)
    assert await result(sandbox_client, kickoff_id) == {
        "topic": "tides",
        "count": 3,
        "summary": "The sandbox flow has dealt with topic: tides.",
    }


async def test_inputs_are_applied_on_top_of_a_restored_state(start: Start) -> None:
    sandbox_client = await start(kind="flow")
    first = await sandbox_client.kickoff(tone="dry")
    await result(sandbox_client, first)
    second = await restored(sandbox_client, first, topic="dams")
    assert (second["topic"], second["tone"]) == ("dams", "dry")
    entry = (await sandbox_client.ledger())["kickoffs"][-1]
    assert (entry["restore_from"], entry["restored"]["tone"]) == (first, "dry")


@pytest.mark.parametrize("outcome", ["failure", "revoked"])
async def test_a_run_that_did_not_succeed_has_saved_nothing(start: Start, outcome: str) -> None:
    sandbox_client = await start(kind="flow")
    first = await sandbox_client.kickoff(tone="dry", sandbox_outcome=outcome)
    sandbox_client.clock.forward(2)
    assert "tone" not in await restored(sandbox_client, first)


async def test_an_unknown_state_starts_from_defaults_without_a_sign(start: Start) -> None:
    sandbox_client = await start(kind="flow")
    assert await restored(sandbox_client, STATE_ID, topic="dams") == {
        "topic": "dams",
        "summary": "The sandbox flow has dealt with topic: dams.",
    }


async def test_a_state_saved_under_an_id_of_the_caller_is_found_only_by_that(start: Start) -> None:
    sandbox_client = await start(kind="flow")
    first = await sandbox_client.kickoff(id=STATE_ID, tone="dry")
    await result(sandbox_client, first)
    assert "tone" not in await restored(sandbox_client, first)
    assert (await restored(sandbox_client, STATE_ID))["tone"] == "dry"


@pytest.mark.parametrize(("kind", "code"), [("flow", 422), ("crew", 200)])
async def test_a_flow_refuses_an_id_that_is_not_a_uuid(start: Start, kind: str, code: int) -> None:
    sandbox_client = await start(kind=kind)
    body = {"inputs": {"topic": "tides", "id": "job 7"}}
    answered, response = await sandbox_client.refusal("POST", "/kickoff", json=body)
    assert answered == code
    assert code == 200 or "'inputs.id' must be a valid UUID" in response["message"]


async def test_a_crew_restores_nothing(start: Start) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with({"restoreFromStateId": STATE_ID})
    assert (await sandbox_client.ledger())["kickoffs"][0]["restore_from"] is None
