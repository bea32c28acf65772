"""The commands `store copy`, `store backup`, and `store check`."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bridge.adapters.store.backup import back_up
from bridge.adapters.store.check import check_store
from bridge.adapters.store.copy import copy_store
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config
from bridge.cli._output import print_json
from bridge.cli.daemon import print_health, reported_errors, run_or_fail, settings_with_logs
from bridge.config.urls import check_store_url, store_location
from bridge.observability import logging as logs

app = typer.Typer(name="store", help="Copy, back up, and check the store.", no_args_is_help=True)

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
    with _progress() as bars:
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


@app.command("backup", epilog="Example: kickoff-bridge store backup backup.db")
def backup(
    file: Annotated[Path, typer.Argument(help="A new file; an existing one is never replaced.")], config: Config = None
) -> None:
    """Back up a SQLite store to a new file, even while a bridge uses it; the copy is consistent and synced to disk."""
    settings = settings_with_logs(config)
    url = settings.store.url.get_secret_value()
    if not url.startswith("sqlite:"):
        raise CommandFailed(Exit.USAGE, "the store is a PostgreSQL database: use pg_dump, or continuous archiving")
    with reported_errors(), _progress() as bars:
        task = bars.add_task("pages")
        try:
            back_up(url, file, time.time(), lambda done, total: bars.update(task, completed=done, total=total))
        except FileExistsError as error:
            raise CommandFailed(Exit.USAGE, f"{error.filename} exists: name a new file, or remove it") from None
    print(f"backed up {settings.store.location} to {file}: {file.stat().st_size} bytes, intact")


@app.command("check", epilog="Example: kickoff-bridge store check")
def check(config: Config = None, as_json: AsJson = False) -> None:
    """Report whether the store is intact, and exit with 74 if it is not; a bridge may use it meanwhile."""
    settings = settings_with_logs(config)
    with reported_errors():
        found = check_store(settings.store.url.get_secret_value(), pooler=settings.store.pooler)
    intact = all(health.ok for health in found.values())
    if as_json:
        print_json({"intact": intact, "checks": {name: asdict(health) for name, health in found.items()}})
    else:
        print_health(found)
    if not intact:
        raise CommandFailed(Exit.STORE_DAMAGED, "the store is damaged: keep a copy of it, and restore a backup")


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True))
