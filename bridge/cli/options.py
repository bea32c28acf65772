"""Options that several verbs share, and what they lead to."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.outcome import CommandFailed, Exit
from bridge.settings import Settings, SettingsError, default_path, load

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings file; $BRIDGE_CONFIG, else bridge.yaml."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Where the bridge listens; $BRIDGE_URL, else from the settings file."),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="The client's token; better in $BRIDGE_TOKEN, where `ps` cannot see it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs to read.")]


def settings_of(config: Path | None) -> Settings:
    """The settings; a problem with them ends the command with 78, all of them at once."""
    try:
        return load(config or default_path())
    except SettingsError as error:
        raise CommandFailed(Exit.CONFIGURATION, *error.problems) from None
