"""Options that several commands share, and how they resolve to settings, address, and token."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from bridge.cli._errors import CommandFailed, Exit
from bridge.config import Renewable, Settings, SettingsError, default_path, load_renewable
from bridge.config.types import check_token
from bridge.config.urls import check_base_url
from bridge.core.delivery.events import timestamp
from bridge.core.runs.request import parse_duration

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file. Default: $BRIDGE_CONFIG, or bridge.yaml."),
]
Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Bridge address. Default: $BRIDGE_URL, or from the settings file."),
]
Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="Client token. Prefer $BRIDGE_TOKEN, which `ps` does not show."),
]


def crew_names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a crew from the settings, if they are valid."""
    try:
        crews = load_renewable(context.params.get("config") or default_path())[0].crews
    except SettingsError:
        return []
    return [name for name in crews if name.startswith(incomplete)]


OfCrew = Annotated[str | None, typer.Option("--crew", help="Only those of this crew.", autocompletion=crew_names)]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only from this time on (RFC 3339), or from a duration ago, such as 2h."),
]
Until = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only before this time (RFC 3339), or before a duration ago, such as 2h."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wide = Annotated[bool, typer.Option("--wide", help="Print every column, with full ids and times.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show changes until Ctrl-C; with --json, one line for each.")]


def read_time(text: str | None) -> str | None:
    """Return a time as the bridge reads it; a duration means so long ago."""
    try:
        seconds = parse_duration(text or "")
        return timestamp(max(0.0, time.time() - seconds))
    except ValueError:
        return text


def load_settings(config: Path | None) -> Settings:
    """Return the settings; if they are invalid, report all problems and exit with 78."""
    return load_renewable_settings(config)[0]


def load_renewable_settings(config: Path | None) -> tuple[Settings, Renewable]:
    """Return the settings like `load_settings`, and an object that rereads secrets from files."""
    try:
        return load_renewable(config or default_path())
    except SettingsError as error:
        raise CommandFailed(Exit.CONFIGURATION, *error.problems) from None


def daemon_address(url: str | None, config: Path | None) -> str:
    """Return the bridge's address from `--url`, BRIDGE_URL, or the settings file."""
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
    """Return the client's token from `--token` or BRIDGE_TOKEN; None: send no token."""
    named = token or os.environ.get("BRIDGE_TOKEN")
    if not named:
        return None
    try:
        return check_token(SecretStr(named)).get_secret_value()
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"{'--token' if token else 'BRIDGE_TOKEN'}: {error}") from None
