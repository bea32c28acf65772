"""`kickoff-bridge hooks test`: shows what a webhook would start, explains errors, and sends nothing."""

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.cli._errors import CommandFailed, Exit

BODY = {"action": "opened", "issue": {"title": "It breaks"}}
SETTINGS = {
    "crews": {"triage": {"url": "http://127.0.0.1:9", "token": "t"}},
    "callbacks": {"allow": ["https://*.example.com"]},
    "hooks": {
        "git": {
            "crew": "triage",
            "verify": {"scheme": "github", "secret": "canary-secret"},
            "when": "action == 'opened'",
            "inputs": {"title": "issue.title"},
            "meta": {"who": "query.who"},
            "callback_url": "query.tell",
        },
        "chat": {"crew": "triage", "verify": {"scheme": "slack", "secret": "s"}},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tmp_path


def signature(raw: bytes) -> str:
    return f"X-Hub-Signature-256: sha256={hmac.digest(b'canary-secret', raw, 'sha256').hex()}"


def tried(folder: Path, *arguments: str, body: Any = BODY, hook: str = "git", signed: bool = True) -> Result:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    (folder / "body").write_bytes(raw)
    proof = ["--header", signature(raw)] if signed else []
    command = ["hooks", "test", hook, "--config", str(folder / "bridge.yaml"), "--body", str(folder / "body")]
    return CliRunner().invoke(app, [*command, *proof, *arguments])


def code(result: Result) -> int:
    return result.exception.code if isinstance(result.exception, CommandFailed) else result.exit_code


def test_an_accepted_webhook_is_shown_as_its_run(folder: Path):
    result = tried(folder, "--header", "X-GitHub-Delivery: d-1", "--query", "who=me")
    assert result.output.splitlines() == [
        "verified: yes",
        "becomes: a run",
        "status: 202",
        "crew: triage",
        'inputs: {"title": "It breaks"}',
        'meta: {"who": "me"}',
        "idempotency_key: d-1",
    ]
    assert code(result) == Exit.DONE


def test_a_failed_verification_is_explained_and_the_content_shown(folder: Path):
    failed = tried(folder, "--json", "--header", f"X-Hub-Signature-256: sha256={'0' * 64}", signed=False)
    shown = json.loads(failed.output)
    assert (shown["verified"], shown["reason"], shown["status"]) == (False, "no signature matches", 401)
    assert (shown["becomes"], shown["inputs"]) == ("a run", {"title": "It breaks"})
    assert code(failed) == 1
    assert "canary" not in failed.output
    assert "x-hub-signature-256 is missing" in tried(folder, signed=False).output


@pytest.mark.parametrize(
    ("body", "arguments", "answer", "becomes"),
    [
        ({"action": "closed"}, [], 204, "nothing: `when` is false"),
        ({"zen": "…"}, ["--header", "X-GitHub-Event: ping"], 204, "the response to a challenge"),
        ({"action": "opened"}, [], 422, "invalid_request at inputs.title: issue.title yields nothing"),
        (b"{", [], 400, "invalid_json: the body is not JSON"),
        (BODY, ["--query", "tell=https://a.example.com/x"], 202, "a run"),
        (BODY, ["--query", "tell=https://evil.example/x"], 422, "callback_not_allowed"),
    ],
)
def test_the_outcome_equals_that_of_the_http_endpoint(
    folder: Path, body: Any, arguments: list[str], answer: int, becomes: str
):
    result = tried(folder, "--json", *arguments, body=body)
    shown = json.loads(result.output)
    assert (shown["verified"], shown["status"]) == (True, answer)
    assert shown["becomes"].startswith(becomes)
    assert code(result) == (0 if answer < 400 else 1)


def test_the_body_may_come_from_standard_input(folder: Path):
    raw = json.dumps(BODY).encode()
    command = ["hooks", "test", "git", "--config", str(folder / "bridge.yaml"), "--body", "-"]
    result = CliRunner().invoke(app, [*command, "--header", signature(raw)], input=raw)
    assert "verified: yes" in result.output


def test_a_slack_challenge_is_shown_as_a_response(folder: Path):
    body = {"type": "url_verification", "challenge": "c"}
    shown = json.loads(tried(folder, "--json", body=body, hook="chat", signed=False).output)
    assert (shown["becomes"], shown["status"]) == ("the response to a challenge", 401)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--header", "nonsense"], "--header: 'nonsense': must have the form name:value"),
        (["--query", "=x"], "--query: '': must have the form name=value"),
        (["--body", "/nowhere"], "--body: "),
    ],
)
def test_wrong_usage_is_reported_in_one_line(folder: Path, arguments: list[str], line: str):
    result = tried(folder, *arguments)
    assert isinstance(result.exception, CommandFailed)
    assert result.exception.lines[0].startswith(line)
    assert code(result) == Exit.USAGE


def test_an_unknown_hook_is_reported_with_the_configured_ones(folder: Path):
    result = tried(folder, hook="nope")
    assert isinstance(result.exception, CommandFailed)
    assert result.exception.lines == ("unknown hook nope; configured: chat, git",)
