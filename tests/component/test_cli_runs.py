"""`runs show` and `runs retry`: by id and by filter."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app, runs
from bridge.cli._errors import CommandFailed, Exit

OLD, NEW = "019ad4f6-7c8d-7e9f-8a0b-1c2d3e4f5a6b", "019ad4f9-7c8d-7e9f-8a0b-1c2d3e4f5a6b"


class FakeBridge:
    """A bridge with two runs of one order; `again`: the older one has been retried before."""

    def __init__(self, *, next_cursor: str | None = None, again: bool = False) -> None:
        self.next_cursor = next_cursor
        self.again = again
        self.queries: list[Mapping[str, str]] = []
        self.retries: list[tuple[str, str]] = []

    def runs(self, query: Mapping[str, str]) -> dict[str, Any]:
        self.queries.append(query)
        return {"runs": [self.run(NEW), self.run(OLD)], "next_cursor": self.next_cursor}

    def run(self, run_id: str) -> dict[str, Any]:
        whole = next(known for known in (OLD, NEW) if known.startswith(run_id))
        return {"run_id": whole, "crew": "research", "state": "failed"}

    def retry(self, run_id: str, key: str, body: Any) -> tuple[dict[str, Any], bool]:
        assert body == {"reason": None}
        self.retries.append((run_id, key))
        return self.run(NEW), self.again


def called(monkeypatch: pytest.MonkeyPatch, bridge: FakeBridge, *arguments: str) -> Result:
    monkeypatch.setattr(runs, "call_bridge", lambda *options: options[-1](bridge))
    return CliRunner().invoke(app, ["runs", *arguments])


def test_runs_that_match_a_filter_are_shown_from_the_oldest_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = FakeBridge()
    shown = called(monkeypatch, bridge, "show", "--filter", "meta.order=42", "--json")
    assert [json.loads(line)["run_id"] for line in shown.stdout.splitlines()] == [OLD, NEW]
    assert bridge.queries == [{"meta.order": "42", "limit": "20"}]
    assert shown.stderr == ""


def test_runs_that_are_not_shown_are_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = called(monkeypatch, FakeBridge(next_cursor=OLD), "show", "--filter", "crew=research")
    assert shown.stderr == "only the newest 20 runs; `runs list` shows all that match\n"


def test_a_retry_has_a_key_with_the_whole_id_so_that_repeating_it_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridge = FakeBridge()
    assert called(monkeypatch, bridge, "retry", OLD[:9]).stderr == ""
    assert called(monkeypatch, bridge, "retry", OLD).exit_code == 0
    assert bridge.retries == [(OLD, f"retry-{OLD}")] * 2


def test_another_key_retries_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = FakeBridge()
    called(monkeypatch, bridge, "retry", OLD, "--key", "on purpose")
    assert bridge.retries == [(OLD, "on purpose")]


def test_an_earlier_retry_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = called(monkeypatch, FakeBridge(again=True), "retry", OLD, "--json")
    assert json.loads(shown.stdout)["run_id"] == NEW
    assert "an earlier retry created this run" in shown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["show", OLD, "--filter", "crew=research"],
        ["show", "--filter", "crew=research", "--watch"],
        ["show", "--filter", "crew"],
        ["retry"],
        ["retry", OLD, "--dry-run"],
        ["retry", OLD, "--filter", "crew=research"],
        ["retry", OLD, "--key", "schlüssel"],
        ["retry", "--filter", "crew=research", "--key", "k"],
    ],
)
def test_options_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    refused = called(monkeypatch, FakeBridge(), *arguments).exception
    assert isinstance(refused, CommandFailed)
    assert refused.code is Exit.USAGE
