"""Help and completion: `-h`, an example for each command, and values of options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from bridge.cli import app

EXAMPLE = re.compile("Example: kickoff-bridge (.+)")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(Context(group)):
        command = group.get_command(Context(group), name)
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_can_be_run_as_it_is(name: str) -> None:
    command = COMMANDS[name]
    example = EXAMPLE.fullmatch(command.epilog or "")
    assert example is not None
    arguments = example[1].removeprefix(name).partition(" > ")[0]
    command.make_context(name, shlex.split(arguments))


@pytest.mark.parametrize("path", [[], ["runs"], ["runs", "list"]])
def test_the_short_option_shows_the_help(path: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*path, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)


def completed(arguments: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COMP_WORDS", f"kickoff-bridge {arguments}")
    monkeypatch.setenv("COMP_CWORD", str(len(arguments.split(" "))))
    monkeypatch.setenv("_KICKOFF_BRIDGE_COMPLETE", "complete_bash")
    return CliRunner().invoke(app, [], prog_name="kickoff-bridge").output.split()


def test_the_shell_completes_commands_states_and_crews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = {"url": "http://127.0.0.1:1", "token": "a-token-of-a-crew"}
    settings = tmp_path / "bridge.yaml"
    settings.write_text(yaml.safe_dump({"crews": {"research": crew, "triage": crew}}))
    monkeypatch.setenv("BRIDGE_CONFIG", str(settings))
    assert completed("runs sho", monkeypatch) == ["show"]
    assert completed("runs list --state in", monkeypatch) == ["in_doubt"]
    assert completed("deliveries list --crew tr", monkeypatch) == ["triage"]
    assert completed("send ", monkeypatch) == ["research", "triage"]
    settings.write_text("crews: 1")
    assert completed("send ", monkeypatch) == []


def test_completion_can_be_installed() -> None:
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output
