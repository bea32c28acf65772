"""The commands `receivers list` and `receivers resume`."""

from typing import Annotated

import typer

from bridge.cli._client import call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, Token, Url, Wide
from bridge.cli._output import print_json, print_receivers

app = typer.Typer(
    name="receivers", help="List failing and paused callback receivers, and resume them.", no_args_is_help=True
)


@app.command("list", epilog="Example: kickoff-bridge receivers list")
def list_receivers(
    wide: Wide = False, as_json: AsJson = False, url: Url = None, token: Token = None, config: Config = None
) -> None:
    """List the callback receivers that fail or are paused."""
    print_receivers(call_bridge(url, token, config, lambda bridge: bridge.receivers()), as_json=as_json, wide=wide)


@app.command("resume", epilog="Example: kickoff-bridge receivers resume https://shop.example:443")
def resume_receivers(
    receiver: Annotated[str | None, typer.Argument(help="Receiver, as listed: https://host:port.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Resume all paused receivers.")] = False,
    reason: Annotated[str | None, typer.Option(help="Reason, for the bridge's audit log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send events to a paused receiver again."""
    if every == (receiver is not None):
        raise CommandFailed(Exit.USAGE, "give either a receiver, or --all")
    body = {"reason": reason, **({"all": True} if receiver is None else {"receiver": receiver})}
    response = call_bridge(url, token, config, lambda bridge: bridge.resume_receivers(body))
    if as_json:
        print_json(response)
    else:
        print(f"{response['resumed']} resumed")
