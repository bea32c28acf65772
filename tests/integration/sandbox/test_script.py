"""A script decides what becomes of kickoffs by their inputs."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.sandbox import SandboxSettings

from .conftest import SandboxClient, Start

TEA = {"inputs": {"topic": "tea"}, "result": "Tea is a drink.", "seconds": 0}


async def outcome(sandbox_client: SandboxClient, **inputs: Any) -> tuple[str, Any]:
    body = await sandbox_client.status(await sandbox_client.kickoff(sandbox_seconds=0, **inputs))
    return body["state"], body["result"]


async def add(sandbox_client: SandboxClient, *entries: Any) -> None:
    assert (await sandbox_client.refusal("POST", "/_script", json=list(entries), headers={}))[0] == 200


async def test_the_result_depends_on_the_inputs(start: Start):
    sandbox_client = await start(script=(TEA,))
    assert await outcome(sandbox_client, topic="tea") == ("SUCCESS", "Tea is a drink.")
    assert await outcome(sandbox_client, topic="tides") == (
        "SUCCESS",
        "The sandbox crew has dealt with topic: tides.",
    )


@pytest.mark.parametrize("result", ["42", "null", '{"a": 1}', "", 42, [1, "2"], {"a": None}, False])
async def test_a_result_is_returned_as_it_is(start: Start, result: Any):
    """Text that looks like JSON was once decoded, as it is in an input."""
    sandbox_client = await start(script=({"result": result},))
    assert await outcome(sandbox_client) == ("SUCCESS", result)


async def test_the_last_task_has_the_text_of_the_script_as_its_output(start: Start):
    sandbox_client = await start(script=(TEA,))
    body = await sandbox_client.status(await sandbox_client.kickoff(topic="tea"))
    assert body["last_executed_task"]["output"] == "Tea is a drink."


async def test_the_first_entry_that_matches_applies_and_later_additions_come_first(start: Start):
    sandbox_client = await start(script=(TEA, {"result": "of any topic"}))
    assert (await outcome(sandbox_client, topic="tea"))[1] == "Tea is a drink."
    assert (await outcome(sandbox_client, topic="tides"))[1] == "of any topic"
    await add(sandbox_client, {"inputs": {"cups": 3}, "result": "three"}, {"result": "last"})
    assert (await outcome(sandbox_client, topic="tea", cups="3"))[1] == "three"
    assert (await outcome(sandbox_client, topic="tea"))[1] == "last"


async def test_a_control_of_the_kickoff_overrides_the_script(start: Start):
    sandbox_client = await start(script=({"outcome": "failure"},))
    assert (await outcome(sandbox_client, sandbox_outcome="success"))[0] == "SUCCESS"


async def test_the_script_is_shown_and_removed(start: Start):
    sandbox_client = await start(script=(TEA,))
    assert await sandbox_client.json("GET", "/_script", headers={}) == {"entries": [TEA]}
    async with sandbox_client.call("DELETE", "/_script", headers={}) as response:
        assert response.status == 204
    assert (await outcome(sandbox_client, topic="tea"))[1] != TEA["result"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("tea", "entry 1: must be an object"),
        ({"inputs": "tea"}, "entry 1: inputs must be an object"),
        ({"outcome": "maybe"}, "entry 1: outcome must be success, failure or revoked; got 'maybe'"),
        ({"then": 1}, "entry 1: there is no member 'then'; use inputs, error, "),
    ],
)
async def test_an_invalid_entry_is_refused_with_the_reason(start: Start, entry: Any, reason: str):
    sandbox_client = await start()
    status, body = await sandbox_client.refusal("POST", "/_script", json=[entry], headers={})
    assert status == 422
    assert body["detail"].startswith(reason)
    with pytest.raises(ValueError, match="entry 1: "):
        SandboxSettings(script=(entry,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "cannot read"), ("{", "is not JSON"), ("{}", "a list of entries"), ("[1]", "entry 1: must be")],
)
def test_a_script_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, reason: str):
    file = tmp_path / "script.json"
    if text is not None:
        file.write_text(text)
    result = CliRunner().invoke(app, ["sandbox", "--script", str(file)])
    assert result.exit_code != 0
    assert reason in str(result.exception)


def test_a_script_file_contains_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from bridge.cli import sandbox as command

    started: list[SandboxSettings] = []

    async def serve(settings: SandboxSettings, _: Any) -> None:
        started.append(settings)

    monkeypatch.setattr(command, "serve", serve)
    (tmp_path / "script.json").write_text(json.dumps([TEA]))
    assert CliRunner().invoke(app, ["sandbox", "--script", str(tmp_path / "script.json")]).exit_code == 0
    assert started[0].script == (TEA,)
