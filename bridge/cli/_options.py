"""Options that several commands share."""

import time
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli._errors import CommandFailed
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
    from bridge.cli._settings import load_settings  # noqa: PLC0415 - commands with a URL do not read the settings

    try:
        crews = load_settings(context.params.get("config")).crews
    except CommandFailed:
        return []
    return [name for name in crews if name.startswith(incomplete)]


OfCrew = Annotated[str | None, typer.Option("--crew", help="Only this crew.", autocompletion=crew_names)]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only from this time (RFC 3339, or an age such as 2h)."),
]
Until = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only before this time (RFC 3339, or an age such as 2h)."),
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
