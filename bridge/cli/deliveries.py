"""The commands `deliveries list`, `deliveries show`, and `deliveries redeliver`."""

from typing import Annotated

import typer

from bridge.cli._client import call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, OfCrew, Token, Url, Wide
from bridge.cli._output import print_deliveries, print_delivery, print_json
from bridge.core.delivery.model import DeliveryState

app = typer.Typer(name="deliveries", help="List, show, and redeliver deliveries.", no_args_is_help=True)


@app.command("list", epilog="Example: kickoff-bridge deliveries list --state dead")
def list_deliveries(
    state: Annotated[DeliveryState | None, typer.Option(help="Only deliveries in this state.")] = None,
    crew: OfCrew = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Only deliveries of this run.")] = None,
    limit: Annotated[int, typer.Option(help="Page size.", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Continue after a page; printed at its end.")] = None,
    wide: Wide = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """List deliveries, newest first."""
    query = _without_none(state=state, crew=crew, run_id=run, limit=str(limit), cursor=cursor)
    page = call_bridge(url, token, config, lambda bridge: bridge.deliveries(query))
    print_deliveries(page, as_json=as_json, wide=wide)


@app.command("show", epilog="Example: kickoff-bridge deliveries show 0193a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b-succeeded-1")
def show_delivery(
    delivery_id: Annotated[str, typer.Argument(help="Delivery id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show one delivery with its last attempts."""
    print_delivery(call_bridge(url, token, config, lambda bridge: bridge.delivery(delivery_id)), as_json=as_json)


@app.command("redeliver", epilog="Example: kickoff-bridge deliveries redeliver --crew research --state dead")
def redeliver(
    delivery_id: Annotated[str | None, typer.Argument(help="Delivery id. Omit it to select by options.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Events created at this time or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Events created before this time.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Deliveries in this state; default: dead.")] = None,
    crew: OfCrew = None,
    reason: Annotated[str | None, typer.Option(help="Reason, for the bridge's audit log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send events again, immediately and with a new retry schedule; resume their receivers if they were paused.

    Give a delivery id, or select deliveries with at least one of --since, --until, --state, --crew.
    """
    selected, why = _without_none(since=since, until=until, state=state, crew=crew), _without_none(reason=reason)
    if bool(delivery_id) == bool(selected):
        raise CommandFailed(
            Exit.USAGE, "give either a delivery id, or at least one of --since, --until, --state, --crew"
        )
    if delivery_id:
        print_delivery(
            call_bridge(url, token, config, lambda bridge: bridge.redeliver(delivery_id, why)), as_json=as_json
        )
        return
    response = call_bridge(url, token, config, lambda bridge: bridge.redeliver_many(selected | why))
    if as_json:
        print_json(response)
    else:
        print(f"{response['redelivered']} redelivered")


def _without_none(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}
