"""The command `sources test`: show what a message of a source would become, without sending anything."""

import json
from typing import Annotated, Any

import typer

from bridge.adapters.amqp.messages import check_content
from bridge.adapters.amqp.sources import PROPERTIES, parse_message
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config
from bridge.cli._preview import IGNORED, pairs, preview_run, print_lines, read_body, refusal_text
from bridge.cli._settings import load_settings
from bridge.composition import policies
from bridge.config import Settings
from bridge.core.errors import RequestRefused
from bridge.core.inbound import source

app = typer.Typer(name="sources", help="Test source settings.", no_args_is_help=True)


@app.command("test", epilog="Example: kickoff-bridge sources test orders --body order.json")
def preview_source(
    name: Annotated[str, typer.Argument(help="Name of the source in the settings.")],
    body: Annotated[str, typer.Option(metavar="FILE", help="File with the raw body; - for standard input.")],
    header: Annotated[list[str] | None, typer.Option(help="A header, as name=value; repeatable.")] = None,
    prop: Annotated[
        list[str] | None, typer.Option("--property", help="A property, such as message_id=7; repeatable.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show what a message of a source would become. Nothing is sent, stored, or started.

    Exits with 1 if the message would become a dead letter.
    """
    settings = load_settings(config)
    if name not in settings.sources:
        known = ", ".join(sorted(settings.sources)) or "none"
        raise CommandFailed(Exit.USAGE, f"unknown source {name}; configured: {known}")
    headers = dict(pairs(header or [], "=", "--header"))
    result = _result(settings, name, read_body(body), headers, _properties(prop or []))
    if as_json:
        print(json.dumps({"source": name, **result}))
    else:
        print_lines({"becomes": result["becomes"]}, result)
    if result["reason"] is not None:
        raise CommandFailed(Exit.RUN_NOT_SUCCESSFUL)


def _result(
    settings: Settings, name: str, body: bytes, headers: dict[str, str], properties: dict[str, Any]
) -> dict[str, Any]:
    """Return what the message becomes; `reason`: the code of its refusal, if any."""
    assert settings.amqp is not None  # required by sources
    found = policies.build_source(name, settings.sources[name], settings.amqp.max_message)
    try:
        check_content(body, properties.get("content_encoding"), settings.amqp.max_message)
        request = source.read(found, parse_message(body, headers, properties))
        if request is None:
            return {"becomes": IGNORED, "reason": None}
        return {**preview_run(request, policies.callback_rules(settings)), "reason": None}
    except RequestRefused as refused:
        return {"becomes": f"a dead letter: {refusal_text(refused)}", "reason": refused.code}


def _properties(given: list[str]) -> dict[str, Any]:
    properties: dict[str, Any] = dict(pairs(given, "=", "--property"))
    if unknown := sorted(properties.keys() - set(PROPERTIES)):
        raise CommandFailed(
            Exit.USAGE, f"--property: unknown property {unknown[0]}; a source can use {', '.join(PROPERTIES)}"
        )
    if "priority" in properties:
        if not properties["priority"].isdecimal():
            raise CommandFailed(Exit.USAGE, "--property: priority must be a whole number")
        properties["priority"] = int(properties["priority"])
    return properties
