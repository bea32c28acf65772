"""`kickoff-bridge sandbox`: every setting has an option."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.cli import sandbox as command
from bridge.sandbox import SandboxSettings

PAGE = Path(__file__).parents[3] / "docs" / "sandbox.md"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[SandboxSettings]:
    settings: list[SandboxSettings] = []

    async def serve(given: SandboxSettings, _: Any) -> None:
        settings.append(given)

    monkeypatch.setattr(command, "serve", serve)
    return settings


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["sandbox", *arguments])


def option_of(name: str) -> str:
    return "--fault" if name == "faults" else f"--{name.replace('_', '-')}"


def test_every_setting_has_its_option(built: list[SandboxSettings]) -> None:
    from typer.main import get_command

    options = {option for parameter in get_command(command.app).params for option in parameter.opts}
    assert {option_of(field.name) for field in fields(SandboxSettings)} <= options


def test_options_become_settings(built: list[SandboxSettings]) -> None:
    rule = '{"on": "kickoff", "do": "never"}'
    result = call("--kind", "flow", "--inputs", "a, b", "--stop", "--quota", "3", "--fault", rule, "--fault", rule)
    assert result.exit_code == 0, result.output
    (settings,) = built
    assert (settings.kind, settings.inputs, settings.stop, settings.quota) == ("flow", ("a", "b"), True, 3)
    assert settings.faults == ({"on": "kickoff", "do": "never"},) * 2


@pytest.mark.parametrize(
    "wrong",
    [
        ("--webhook-loss-rate", "2"),
        ("--fault", "{"),
        ("--fault", '{"on": "kickoff", "do": "explode"}'),
        ("--run-time", "soon"),
        ("--human-questions", "-1"),
    ],
)
def test_an_invalid_option_is_refused(built: list[SandboxSettings], wrong: tuple[str, str]) -> None:
    result = call(*wrong)
    assert result.exit_code != 0
    assert built == []
