"""Verbs that talk to a running bridge: send, runs list, runs show."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from bridge.cli.http_client import Json, connected
from bridge.cli.options import AsJson, Config, Token, Url, settings_of
from bridge.cli.outcome import CommandFailed, Exit

LOOK_EVERY = 0.5
WIDE = 160  # columns, where nobody says how many there are
FINAL = {"succeeded", "failed", "timed_out", "cancelled"}
STYLES = {"succeeded": "green", "failed": "red", "timed_out": "red", "in_doubt": "yellow", "running": "cyan"}

T = TypeVar("T")


def send(
    crew: Annotated[str, typer.Argument(help="The crew to run.")],
    inputs: Annotated[list[str] | None, typer.Argument(help="Inputs as name=value; values are text.")] = None,
    inputs_json: Annotated[str | None, typer.Option("--inputs", help="Inputs as JSON, or @FILE.")] = None,
    meta: Annotated[
        str | None, typer.Option(help="Your own data as JSON, or @FILE; it comes back in every event.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The idempotency key: the same key is the same run.")] = None,
    callback_url: Annotated[str | None, typer.Option(help="Where to post the run's events.")] = None,
    deadline: Annotated[str | None, typer.Option(help="A duration such as 30s, 5m or 1h.")] = None,
    priority: Annotated[int | None, typer.Option(help="From 0 to 255; higher goes first.")] = None,
    wait: Annotated[bool, typer.Option(help="Follow the run to its end.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send one kickoff request to a running bridge, follow it, and print the outcome.

    Ends with 1 if the run is over and did not succeed.
    """
    request = {
        "crew": crew,
        "inputs": _object("--inputs", inputs_json) | _pairs(inputs or []),
        "meta": _object("--meta", meta),
        "callback_url": callback_url,
        "deadline": deadline,
        "priority": priority,
    }
    body = {name: value for name, value in request.items() if value is not None}
    run = _run(_send(_address(url, config), _token(token), body, key, wait))
    _show(run, as_json)
    if wait and run["state"] != "succeeded":
        raise typer.Exit(Exit.RUN_NOT_SUCCESSFUL)


def list_runs(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    crew: Annotated[str | None, typer.Option(help="Only runs of this crew.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """List runs, newest first."""
    query = {"state": state, "crew": crew, "cursor": cursor, "limit": str(limit)}
    wanted = {name: value for name, value in query.items() if value is not None}
    page = _run(_call(_address(url, config), _token(token), lambda bridge: bridge.runs(wanted)))
    if as_json:
        print(json.dumps(page, ensure_ascii=False))
        return
    table = Table(box=None, header_style="bold")
    for column in ("run", "crew", "state", "accepted", "finished"):
        table.add_column(column, no_wrap=True, overflow="ignore")  # ids are there to be copied
    for run in page["runs"]:
        state_style = STYLES.get(run["state"], "")
        table.add_row(run["run_id"], run["crew"], f"[{state_style}]{run['state']}[/]" if state_style else run["state"],
                      run["accepted_at"], run["finished_at"] or "")  # fmt: skip
    Console(width=None if sys.stdout.isatty() else WIDE).print(table, soft_wrap=True)
    if page["next_cursor"]:
        print(f"more: --cursor {page['next_cursor']}")


def show_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show one run with its deliveries."""
    _show(_run(_call(_address(url, config), _token(token), lambda bridge: bridge.run(run_id))), as_json)


def cancel_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """End a run for its producer now; the execution is asked to stop where the crew API can do that."""
    _steer(run_id, "cancel", {}, as_json, url, token, config)


def resolve_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    retry: Annotated[bool, typer.Option("--retry", help="Start it again; you answer for a second execution.")] = False,
    adopt: Annotated[str | None, typer.Option(metavar="ID", help="This kickoff id is its execution.")] = None,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give it up: it ends as failed.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Decide about a run in doubt: exactly one of --retry, --adopt, --abandon."""
    chosen = [
        body
        for wanted, body in (
            (retry, {"action": "retry"}),
            (adopt is not None, {"action": "adopt", "kickoff_id": adopt}),
            (abandon, {"action": "abandon"}),
        )
        if wanted
    ]
    if len(chosen) != 1:
        raise CommandFailed(Exit.USAGE, "give exactly one of --retry, --adopt ID, --abandon")
    _steer(run_id, "resolve", chosen[0], as_json, url, token, config)


def _steer(
    run_id: str, verb: str, body: Json, as_json: bool, url: str | None, token: str | None, config: Path | None
) -> None:
    address, secret = _address(url, config), _token(token)
    _show(_run(_call(address, secret, lambda bridge: bridge.steer(run_id, verb, body))), as_json)


async def _send(url: str, token: str | None, body: Json, key: str | None, wait: bool) -> Json:
    console = Console(stderr=True)
    async with connected(url, token) as bridge:
        accepted = await bridge.submit(body, key)
        run = accepted
        with console.status("") as status:
            while wait and run["state"] not in FINAL:
                run = await bridge.run(accepted["run_id"])
                status.update(f"{run['run_id']}  {run['state']}{_progress(run)}")
                await asyncio.sleep(LOOK_EVERY)
        return run


async def _call(url: str, token: str | None, ask: Any) -> Json:
    async with connected(url, token) as bridge:
        answer: Json = await ask(bridge)
        return answer


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise CommandFailed(Exit.DONE, "stopped looking; the run goes on") from None


def _address(url: str | None, config: Path | None) -> str:
    named = url or os.environ.get("BRIDGE_URL")
    if named:
        return named
    http = settings_of(config).http
    host = f"[{http.host}]" if ":" in http.host else http.host
    return f"http://{host}:{http.port}"


def _token(token: str | None) -> str | None:
    return token or os.environ.get("BRIDGE_TOKEN") or None


def _pairs(texts: list[str]) -> Json:
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise CommandFailed(Exit.USAGE, f"{name!r} is not name=value")
    return {name: value for name, _, value in pairs}


def _object(option: str, text: str | None) -> Json:
    """JSON given in place, or in a file after an @."""
    if text is None:
        return {}
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise CommandFailed(Exit.USAGE, f"{option}: {error}") from None
    if not isinstance(value, dict):
        raise CommandFailed(Exit.USAGE, f"{option}: must be a JSON object")
    return value


def _show(run: Json, as_json: bool) -> None:
    if as_json:
        print(json.dumps(run, ensure_ascii=False))
        return
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"[bold]{run['run_id']}[/]  {run['crew']}  [{STYLES.get(run['state'], 'none')}]{run['state']}[/]")
    for name in ("kickoff_id", "accepted_at", "started_at", "finished_at", "error", "result"):
        if run.get(name):
            out.print(f"  {name}: {run[name]}", markup=False)
    for delivery in run.get("deliveries", []):
        trouble = f": {delivery['last_error']}" if delivery["last_error"] else ""
        out.print(f"  {delivery['type']} to {delivery['destination']}: {delivery['state']}{trouble}", markup=False)


def _progress(run: Json) -> str:
    progress = run.get("progress") or {}
    return f"  {progress.get('completed')} of {progress['total']} tasks" if progress.get("total") else ""
