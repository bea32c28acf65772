"""`--watch`: shows changes until the run ends."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.cli import _watch, app

STATES = ("accepted", "running", "running", "succeeded", "never requested")


class FakeBridge:
    """Returns a run in another state at each call."""

    def __init__(self) -> None:
        self._states: Iterator[str] = iter(STATES)

    def run(self, run_id: str) -> dict[str, Any]:
        return {"run_id": run_id, "crew": "research", "state": next(self._states)}


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> FakeBridge:
    fake = FakeBridge()
    monkeypatch.setattr(_watch, "INTERVAL", 0.0)
    monkeypatch.setattr(_watch, "call_bridge", lambda *options: options[-1](fake))
    return fake


def test_each_change_is_one_line_of_json(bridge: FakeBridge) -> None:
    shown = CliRunner().invoke(app, ["runs", "show", "an-id", "--watch", "--json"])
    states = [json.loads(line)["state"] for line in shown.output.splitlines()]
    assert (shown.exit_code, states) == (0, ["accepted", "running", "succeeded"])


def test_the_end_of_the_run_ends_the_command(bridge: FakeBridge) -> None:
    shown = CliRunner().invoke(app, ["runs", "show", "an-id", "--watch"])
    assert (shown.exit_code, shown.output.split()) == (0, ["an-id", "research", "succeeded"])
