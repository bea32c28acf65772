"""The verb `send`: one request to a running bridge, followed to its end."""

import asyncio
from functools import partial
from typing import Annotated

import typer
from rich.console import Console

from bridge.cli._client import BridgeClient, Json
from bridge.cli._client_session import ask
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._inputs import from_json, from_pairs
from bridge.cli._options import AsJson, Config, Token, Url
from bridge.cli._output import print_run, progress_key
from bridge.core.runs.model import FINAL_STATES, State

POLL_INTERVAL = 0.5
FOLLOWED_TO = FINAL_STATES | {State.IN_DOUBT}
"""Where `send` stops looking. A run in doubt may stay so for ever: by the policy `hold` only a person ends that."""


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
    wait: Annotated[bool, typer.Option(help="Follow the run to its end, or until it is in doubt.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Send one kickoff request to a running bridge, follow it, and print the outcome.

    Ends with 1 if the run is over and did not succeed, or is in doubt.
    """
    request = {
        "crew": crew,
        "inputs": from_json("--inputs", inputs_json) | from_pairs(inputs or []),
        "meta": from_json("--meta", meta),
        "callback_url": callback_url,
        "deadline": deadline,
        "priority": priority,
        "idempotency_key": key,
    }
    body = {name: value for name, value in request.items() if value is not None}
    run = ask(url, token, config, partial(_send, body, wait))
    print_run(run, as_json=as_json)
    if wait and run["state"] != State.SUCCEEDED:
        raise CommandFailed(Exit.RUN_NOT_SUCCESSFUL, *_in_doubt(run))


async def _send(request: Json, wait: bool, bridge: BridgeClient) -> Json:
    run = await bridge.submit(request)
    return await _track(bridge, run["run_id"]) if wait else run


async def _track(bridge: BridgeClient, run_id: str) -> Json:
    """The run as it is when nothing more can be expected; whoever stops us before is told how to find it."""
    try:
        with Console(stderr=True).status("") as status:
            while True:
                run = await bridge.run(run_id)
                if run["state"] in FOLLOWED_TO:
                    return run
                status.update(progress_key(run))
                await asyncio.sleep(POLL_INTERVAL)
    except asyncio.CancelledError:  # only SIGINT cancels us, and the process ends
        raise CommandFailed(Exit.INTERRUPTED, f"stopped looking; run {run_id} goes on") from None
    except CommandFailed as failure:
        raise CommandFailed(failure.code, *failure.lines, f"run {run_id} is stored: `runs show {run_id}`") from None


def _in_doubt(run: Json) -> list[str]:
    """What to do about a run in doubt; nothing for any other."""
    if run["state"] != State.IN_DOUBT:
        return []
    run_id = run["run_id"]
    return [
        f"run {run_id} is in doubt: whether its execution was started is not known, and may never be",
        f"look again: `runs show {run_id}`; decide: `runs resolve {run_id}`",
    ]
