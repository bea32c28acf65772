"""The commands `deliveries list`, `deliveries show`, `deliveries redeliver`, and `deliveries discard`."""

from typing import Annotated

import typer

from bridge.cli._client import call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, OfCrew, Since, Token, Until, Url, Wide, read_time
from bridge.cli._output import print_counts, print_deliveries, print_delivery
from bridge.core.delivery.model import DeliveryState

app = typer.Typer(name="deliveries", help="List, show, redeliver, and discard deliveries.", no_args_is_help=True)


@app.command("list", epilog="Example: kickoff-bridge deliveries list --state dead")
def list_deliveries(
    state: Annotated[DeliveryState | None, typer.Option(help="Only deliveries in this state.")] = None,
    crew: OfCrew = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Only deliveries of this run.")] = None,
    limit: Annotated[int, typer.Option(help="Page size.", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Cursor printed at the end of the previous page.")] = None,
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
    since: Since = None,
    until: Until = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Deliveries in this state; default: dead.")] = None,
    crew: OfCrew = None,
    receiver: Annotated[str | None, typer.Option(help="Only deliveries to this receiver: https://host:port.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the deliveries that match.")] = False,
    reason: Annotated[str | None, typer.Option(help="Reason, for the bridge's audit log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send events again, immediately and with a new retry schedule; resume their receivers if they were paused.

    Give a delivery id, or select deliveries with at least one of --since, --until, --state, --crew, --receiver.
    """
    period = {"since": read_time(since), "until": read_time(until)}
    filter_, why = _without_none(**period, state=state, crew=crew, receiver=receiver), _without_none(reason=reason)
    if bool(delivery_id) == bool(filter_):
        options = "--since, --until, --state, --crew, --receiver"
        raise CommandFailed(Exit.USAGE, f"give either a delivery id, or at least one of {options}")
    if delivery_id:
        if dry_run:
            raise CommandFailed(Exit.USAGE, "--dry-run does not apply to a delivery id")
        print_delivery(
            call_bridge(url, token, config, lambda bridge: bridge.redeliver(delivery_id, why)), as_json=as_json
        )
        return
    body = {"filter": filter_, "dry_run": dry_run, **why}
    counts = call_bridge(url, token, config, lambda bridge: bridge.command_many("/v1/deliveries/redeliver", body))
    print_counts(counts, as_json=as_json)


@app.command("discard", epilog="Example: kickoff-bridge deliveries discard ID --reason 'its receiver is gone'")
def discard(
    delivery_id: Annotated[str, typer.Argument(help="Delivery id.")],
    reason: Annotated[str | None, typer.Option(help="Reason, for the bridge's audit log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Give up on a pending delivery, which becomes dead and can be redelivered."""
    why = _without_none(reason=reason)
    print_delivery(call_bridge(url, token, config, lambda bridge: bridge.discard(delivery_id, why)), as_json=as_json)


def _without_none(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}
