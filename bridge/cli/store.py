"""The command `store copy`: copy the bridge's data to another store."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bridge.adapters.store.copy import copy_store
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli.daemon import run_or_fail
from bridge.config.urls import check_store_url, store_location
from bridge.observability import logging as logs

app = typer.Typer(name="store", help="Copy the bridge's data to another store.", no_args_is_help=True)

From = Annotated[str, typer.Option("--from", help="Store to copy, such as sqlite:///kickoff-bridge.db.")]
To = Annotated[str, typer.Option("--to", help="An empty store, such as postgresql://user:password@host/database.")]


@app.command(
    "copy", epilog="Example: kickoff-bridge store copy --from sqlite:///bridge.db --to postgresql://bridge@db/bridge"
)
def copy(source: From, target: To) -> None:
    """Copy all data into an empty store, while no bridge uses either store; if interrupted, run it again."""
    logs.configure("info", "auto")
    for option, url in (("--from", source), ("--to", target)):
        _check(option, url)
    console = Console(stderr=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console) as bars:
        tasks = {}

        def show(table: str, done: int, total: int) -> None:
            if table not in tasks:
                tasks[table] = bars.add_task(table)
            bars.update(tasks[table], completed=done, total=total)

        counts = run_or_fail(copy_store(source, target, show))
    rows = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"copied to {store_location(target)}: {rows}; counts and hashes agree")


def _check(option: str, url: str) -> None:
    try:
        check_store_url(url)
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"{option}: {error}") from None
