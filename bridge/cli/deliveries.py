"""Verbs about the deliveries of a running bridge: list, show, redeliver."""

from typing import Annotated

import typer

from bridge.cli._client_session import ask
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, Token, Url
from bridge.cli._output import print_deliveries, print_delivery, print_json

State = Annotated[str | None, typer.Option(help="Only deliveries in this state: pending, delivered, dead.")]
Crew = Annotated[str | None, typer.Option(help="Only deliveries of this crew.")]


def list_deliveries(
    state: State = None,
    crew: Crew = None,
    run: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Only deliveries of this run.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """List deliveries, newest first."""
    query = _given(state=state, crew=crew, run_id=run, limit=str(limit), cursor=cursor)
    page = ask(url, token, config, lambda bridge: bridge.deliveries(query))
    print_deliveries(page, as_json=as_json)


def show_delivery(
    delivery_id: Annotated[str, typer.Argument(help="The delivery's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show one delivery with its last attempts."""
    print_delivery(ask(url, token, config, lambda bridge: bridge.delivery(delivery_id)), as_json=as_json)


def redeliver(
    delivery_id: Annotated[str | None, typer.Argument(help="The delivery's id; or choose by the options.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Events made at this time or later.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Events made before this time.")] = None,
    state: Annotated[str | None, typer.Option(help="In this state; dead unless told.")] = None,
    crew: Crew = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the bridge's log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send events again, at once and with a whole schedule; resumes their receivers if those were paused.

    One by its id, or all that the options choose; at least one option must be given.
    """
    chosen, why = _given(since=since, until=until, state=state, crew=crew), _given(reason=reason)
    if bool(delivery_id) == bool(chosen):
        raise CommandFailed(
            Exit.USAGE, "give either a delivery's id, or at least one of --since, --until, --state, --crew"
        )
    if delivery_id:
        print_delivery(ask(url, token, config, lambda bridge: bridge.redeliver(delivery_id, why)), as_json=as_json)
        return
    answer = ask(url, token, config, lambda bridge: bridge.redeliver_many(chosen | why))
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['redelivered']} sent again")


def _given(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}
