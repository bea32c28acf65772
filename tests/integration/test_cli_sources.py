"""`kickoff-bridge sources test`: shows what a message would start, explains refusals, and sends nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.cli._errors import CommandFailed, Exit

BODY = b'{"type": "order.placed", "order": {"title": "otters"}}'
SETTINGS = {
    "amqp": {"max_message": "1KiB"},
    "crews": {"research": {"url": "http://127.0.0.1:9", "token": "t"}},
    "callbacks": {"allow": ["https://*.example.com"]},
    "sources": {
        "orders": {
            "queue": "kickoff.orders",
            "crew": "research",
            "when": "type == 'order.placed'",
            "inputs": {"topic": "order.title"},
            "meta": {"customer": "headers.customer"},
        },
        "plain": {"queue": "q", "crew": "research", "inputs": {"all": "@"}, "callback_url": "headers.tell"},
    },
}


def tried(folder: Path, *arguments: str, body: bytes = BODY, source: str = "orders") -> Result:
    (folder / "bridge.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "body").write_bytes(body)
    command = ["sources", "test", source, "--config", str(folder / "bridge.yaml"), "--body", str(folder / "body")]
    return CliRunner().invoke(app, [*command, *arguments])


def code(result: Result) -> int:
    return result.exception.code if isinstance(result.exception, CommandFailed) else result.exit_code


def test_an_accepted_message_is_shown_as_its_run(tmp_path: Path):
    result = tried(tmp_path, "--header", "Customer=42", "--property", "message_id=m-7")
    assert result.output.splitlines() == [
        "becomes: a run",
        "crew: research",
        'inputs: {"topic": "otters"}',
        'meta: {"customer": "42"}',
        "idempotency_key: m-7",
    ]
    assert code(result) == Exit.DONE


@pytest.mark.parametrize(
    ("body", "arguments", "reason", "becomes"),
    [
        (b'{"type": "order.paid"}', [], None, "nothing: `when` is false"),
        (b'{"type": "order.placed"}', [], "invalid_request", "a dead letter: invalid_request at inputs.topic: "),
        (b"<order/>", [], "invalid_json", "a dead letter: invalid_json: the body is not JSON"),
        (b" " * 2000, [], "too_large", "a dead letter: too_large: "),
        (BODY, ["--property", "content_encoding=gzip"], "invalid_request", "a dead letter: "),
    ],
)
def test_the_outcome_equals_that_of_the_consumer(
    tmp_path: Path, body: bytes, arguments: list[str], reason: str | None, becomes: str
):
    result = tried(tmp_path, "--json", *arguments, body=body)
    shown = json.loads(result.output)
    assert (shown["source"], shown["reason"]) == ("orders", reason)
    assert shown["becomes"].startswith(becomes)
    assert code(result) == (0 if reason is None else 1)


@pytest.mark.parametrize(
    ("url", "reason"), [("https://a.example.com", None), ("https://b.org", "callback_not_allowed")]
)
def test_properties_and_the_callback_url_are_used_as_by_the_consumer(tmp_path: Path, url: str, reason: str | None):
    result = tried(
        tmp_path, "--json", "--header", f"Tell={url}", "--property", "priority=3", source="plain", body=b"{}"
    )
    shown: dict[str, Any] = json.loads(result.output)
    assert shown["reason"] == reason
    if reason is None:
        assert shown["inputs"]["all"]["properties"] == {"priority": 3}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--header", "nonsense"], "--header: 'nonsense': must have the form name=value"),
        (["--property", "routing_key=x"], "--property: unknown property routing_key; a source can use content_type,"),
        (["--property", "priority=high"], "--property: priority must be a whole number"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(tmp_path: Path, arguments: list[str], line: str):
    result = tried(tmp_path, *arguments)
    assert isinstance(result.exception, CommandFailed)
    assert (result.exception.code, result.exception.lines[0].startswith(line)) == (Exit.USAGE, True)


def test_an_unknown_source_is_reported_with_the_known_ones(tmp_path: Path):
    failed = tried(tmp_path, source="none").exception
    assert isinstance(failed, CommandFailed)
    assert failed.lines == ("unknown source none; configured: orders, plain",)
