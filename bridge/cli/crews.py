"""The command `crews list`."""

from typing import Any

import typer

from bridge.cli._client import Json, call_bridge
from bridge.cli._options import AsJson, Config, Token, Url, Wide
from bridge.cli._output import print_json
from bridge.cli._tables import Column, print_table
from bridge.core.runs.request import format_duration

app = typer.Typer(name="crews", help="List the crews.", no_args_is_help=True)

CREWS = (
    Column("crew", 1, ("name",)),
    Column("usable", 2, ("usable",), least=12),
    Column("slots", 3, ("slots",)),
    Column("accepted", 4, ("runs.accepted",)),
    Column("in doubt", 5, ("runs.in_doubt",)),
    Column("human", 8, ("runs.waiting_for_human",)),
    Column("calls/s", 7, ("rate",)),
    Column("budget", 6, ("budget",)),
    Column("run time", 9, ("run_time",)),
    Column("overdue", 10, ("polls_overdue",)),
    Column("kind", 11, ("kind",)),
)


@app.command("list", epilog="Example: kickoff-bridge crews list")
def list_crews(
    wide: Wide = False, as_json: AsJson = False, url: Url = None, token: Token = None, config: Config = None
) -> None:
    """List the crews: whether each is usable and if not, why; its runs, slots, rate, budget, and learned run times."""
    found = call_bridge(url, token, config, lambda bridge: bridge.crews())
    if as_json:
        print_json(found)
    else:
        print_table("crews", CREWS, list(map(crew_row, found["crews"])), wide=wide)


def crew_row(crew: Json) -> Json:
    """Return a crew of `GET /v1/crews` with the texts of its row; what is null there stays empty."""
    slots, budget, rate, times = (crew.get(name) for name in ("slots", "budget", "request_rate", "run_times"))
    return crew | {
        "usable": "yes" if crew.get("paused") is None else f"no: {crew['paused']}",
        "slots": _used(slots, "limit"),
        "budget": budget and f"{_used(budget, 'runs')} per {format_duration(budget['per'])}",
        "rate": rate and f"{rate['now']:g} of {rate['limit']:g}",
        "run_time": times and f"{times['median']:.1f} s, p90 {times['p90']:.1f} s",
    }


def _used(numbers: Any, limit: str) -> str | None:
    return numbers and f"{numbers['used']} of {numbers[limit]}"
