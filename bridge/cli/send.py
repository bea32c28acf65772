"""The command `send`: submit one kickoff request to a running bridge and wait for its end."""

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.cli._client import BridgeClient, Json, NotListening, call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, Token, Url, crew_names
from bridge.cli._output import print_run, progress_line
from bridge.core.errors import RequestRefused
from bridge.core.json import parse_object
from bridge.core.runs.model import FINAL_STATES, State

app = typer.Typer()

POLL_INTERVAL = 0.5
STARTUP = 10.0  # seconds that a bridge may take to start
STARTUP_INTERVAL = 0.2
STOP_STATES = FINAL_STATES | {State.IN_DOUBT}
"""States in which `send` stops waiting. Under the policy `hold`, only an operator resolves a run in doubt."""


@app.command(epilog="Example: kickoff-bridge send research topic=tides --key order-42")
def send(
    crew: Annotated[str, typer.Argument(help="Crew to run.", autocompletion=crew_names)],
    inputs: Annotated[list[str] | None, typer.Argument(help="Inputs as name=value; values are strings.")] = None,
    inputs_json: Annotated[str | None, typer.Option("--inputs", help="Inputs as a JSON object, or @FILE.")] = None,
    meta: Annotated[
        str | None, typer.Option(help="Your own data as a JSON object, or @FILE; returned in every event.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key refers to the same run.")] = None,
    callback_url: Annotated[str | None, typer.Option(help="URL that receives the run's events.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Maximum duration, such as 30s, 5m, or 1h.")] = None,
    start_by: Annotated[
        str | None, typer.Option(help="Expire the run unless it is started within this duration, such as 2h.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="From 0 to 255; higher starts first.")] = None,
    restore_from: Annotated[
        str | None, typer.Option(help="Run id of an earlier run of the flow, from whose state to continue.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the run ends or is in doubt.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send one kickoff request to a running bridge, show its progress, and print the outcome.

    Exits with 1 if the run ends without success or is in doubt.
    """
    request = {
        "crew": crew,
        "inputs": _parse_json("--inputs", inputs_json) | _parse_pairs(inputs or []),
        "meta": _parse_json("--meta", meta),
        "callback_url": callback_url,
        "deadline": deadline,
        "start_by": start_by,
        "priority": priority,
        "idempotency_key": key,
        "restore_from": None if restore_from is None else {"run_id": restore_from},
    }
    body = {name: value for name, value in request.items() if value is not None}
    run = call_bridge(url, token, config, partial(_send, body, wait))
    print_run(run, as_json=as_json)
    if wait and run["state"] != State.SUCCEEDED:
        raise CommandFailed(Exit.RUN_NOT_SUCCESSFUL, *_in_doubt(run))


def _parse_pairs(texts: Iterable[str]) -> dict[str, Any]:
    """Parse name=value arguments; values are strings."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise CommandFailed(Exit.USAGE, f"'{name}': must have the form name=value")
    return {name: value for name, _, value in pairs}


def _parse_json(option: str, text: str | None) -> dict[str, Any]:
    """Parse a JSON object given inline, or as @FILE."""
    if text is None:
        return {}
    try:
        return parse_object(Path(text[1:]).read_bytes() if text.startswith("@") else os.fsencode(text))
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"{option}: cannot read {text[1:]}: {error.strerror}") from None
    except RequestRefused as refused:
        # the detail refers to the body of a request; name the option instead
        raise CommandFailed(Exit.USAGE, f"{option}: {refused.detail.removeprefix('the body ')}") from None


def _send(request: Json, wait: bool, bridge: BridgeClient) -> Json:
    run = submit_once_started(request, bridge)
    return _wait_until_ended(bridge, run["run_id"]) if wait else run


def submit_once_started(request: Json, bridge: BridgeClient) -> Json:
    """Submit the request; if no bridge listens yet, say so once and wait a few seconds for it to start."""
    deadline = time.monotonic() + STARTUP
    with contextlib.suppress(NotListening):
        return bridge.submit(request)
    print(f"no bridge at {bridge.url} yet; waiting up to {STARTUP:g} s for it to start", file=sys.stderr, flush=True)
    while True:
        time.sleep(STARTUP_INTERVAL)
        try:
            return bridge.submit(request)
        except NotListening:
            if time.monotonic() > deadline:
                raise


def _wait_until_ended(bridge: BridgeClient, run_id: str) -> Json:
    """Poll the run until it ends or is in doubt. When interrupted, print how to find the run."""
    try:
        with Console(stderr=True).status("") as status:
            while True:
                run = bridge.run(run_id)
                if run["state"] in STOP_STATES:
                    return run
                status.update(progress_line(run))
                time.sleep(POLL_INTERVAL)
    except KeyboardInterrupt:
        raise CommandFailed(Exit.INTERRUPTED, f"interrupted; run {run_id} continues: `runs show {run_id}`") from None
    except CommandFailed as failure:
        raise CommandFailed(failure.code, *failure.lines, f"run {run_id} is stored: `runs show {run_id}`") from None


def _in_doubt(run: Json) -> list[str]:
    """Return what to do about a run in doubt; no lines for any other run."""
    if run["state"] != State.IN_DOUBT:
        return []
    run_id = run["run_id"]
    return [
        f"run {run_id} is in doubt: it is unknown whether its execution was started",
        f"check again with `runs show {run_id}`, or decide with `runs resolve {run_id}`",
    ]
