"""Options that several verbs share, and what they lead to."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from bridge.cli._errors import CommandFailed, Exit
from bridge.config import Renewable, Settings, SettingsError, default_path, load_renewable
from bridge.config.types import check_token
from bridge.config.urls import check_base_url

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


def load_settings(config: Path | None) -> Settings:
    """The settings; a problem with them ends the command with 78, all of them at once."""
    return load_renewable_settings(config)[0]


def load_renewable_settings(config: Path | None) -> tuple[Settings, Renewable]:
    """As `load_settings`, and what keeps an eye on the secrets that came from files."""
    try:
        return load_renewable(config or default_path())
    except SettingsError as error:
        raise CommandFailed(Exit.CONFIGURATION, *error.problems) from None


def daemon_address(url: str | None, config: Path | None) -> str:
    """Where the bridge listens."""
    named = url or os.environ.get("BRIDGE_URL")
    if not named:
        http = load_settings(config).http
        host = f"[{http.host}]" if ":" in http.host else http.host
        return f"http://{host}:{http.port}"
    try:
        return check_base_url(named)
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"{'--url' if url else 'BRIDGE_URL'}: {error}") from None


def client_token(token: str | None) -> str | None:
    """The client's token; None: the bridge is asked without one."""
    named = token or os.environ.get("BRIDGE_TOKEN")
    if not named:
        return None
    try:
        return check_token(SecretStr(named)).get_secret_value()
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"{'--token' if token else 'BRIDGE_TOKEN'}: {error}") from None
