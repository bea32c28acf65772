"""Verbs that talk to a running bridge: send, and runs list, show, cancel, resume, resolve."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from bridge.cli.display import print_page, print_run, progress_of
from bridge.cli.http_client import BridgeClient, Json, connected
from bridge.cli.inputs import from_json, from_pairs
from bridge.cli.options import AsJson, Config, Token, Url, address_of, token_of
from bridge.cli.outcome import CommandFailed, Exit
from bridge.core.model import FINAL_STATES, State

LOOK_EVERY = 0.5
FOLLOWED_TO = FINAL_STATES | {State.IN_DOUBT}
"""Where `send` stops looking. A run in doubt may stay so for ever: by the policy `hold` only a person ends that."""

T = TypeVar("T")

Reason = Annotated[str | None, typer.Option(help="Why; kept in the bridge's log beside your client's name.")]


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
    run = _run(_send(address_of(url, config), token_of(token), body, wait))
    print_run(run, as_json=as_json)
    if wait and run["state"] != State.SUCCEEDED:
        raise CommandFailed(Exit.RUN_NOT_SUCCESSFUL, *_in_doubt(run))


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
    page = _run(_call(address_of(url, config), token_of(token), lambda bridge: bridge.runs(wanted)))
    print_page(page, as_json=as_json)


def show_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show one run with its deliveries."""
    run = _run(_call(address_of(url, config), token_of(token), lambda bridge: bridge.run(run_id)))
    print_run(run, as_json=as_json)


def cancel_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """End a run for its producer now; the execution is asked to stop where the crew API can do that."""
    _steer(run_id, "cancel", {"reason": reason}, as_json, url, token, config)


def resume_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    feedback: Annotated[
        str | None, typer.Argument(help="What to tell the crew; it works at the task once more.")
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Let it go on; nothing else is then sent.")] = False,
    task_id: Annotated[str | None, typer.Option(help="Only if this is the question that waits.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Answer the question that a run waits with, once."""
    if feedback is None and not approve:
        raise CommandFailed(Exit.USAGE, "give an answer, or --approve")
    answer = {"feedback": feedback, "approve": approve, "task_id": task_id}
    _steer(run_id, "resume", {k: v for k, v in answer.items() if v is not None}, as_json, url, token, config)


def resolve_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    retry: Annotated[bool, typer.Option("--retry", help="Start it again; you answer for a second execution.")] = False,
    adopt: Annotated[str | None, typer.Option(metavar="ID", help="This kickoff id is its execution.")] = None,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give it up: it ends as failed.")] = False,
    reason: Reason = None,
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
    _steer(run_id, "resolve", {**chosen[0], "reason": reason}, as_json, url, token, config)


def _steer(
    run_id: str, verb: str, body: Json, as_json: bool, url: str | None, token: str | None, config: Path | None
) -> None:
    address, secret = address_of(url, config), token_of(token)
    run = _run(_call(address, secret, lambda bridge: bridge.steer(run_id, verb, body)))
    print_run(run, as_json=as_json)


async def _send(url: str, token: str | None, request: Json, wait: bool) -> Json:
    async with connected(url, token) as bridge:
        run = await bridge.submit(request)
        return await _follow(bridge, run["run_id"]) if wait else run


async def _follow(bridge: BridgeClient, run_id: str) -> Json:
    """The run as it is when nothing more can be expected; whoever stops us before is told how to find it."""
    try:
        with Console(stderr=True).status("") as status:
            while True:
                run = await bridge.run(run_id)
                if run["state"] in FOLLOWED_TO:
                    return run
                status.update(progress_of(run))
                await asyncio.sleep(LOOK_EVERY)
    except asyncio.CancelledError:  # only SIGINT cancels us, and the process ends
        raise CommandFailed(Exit.INTERRUPTED, f"stopped looking; run {run_id} goes on") from None
    except CommandFailed as failure:
        raise CommandFailed(failure.code, *failure.lines, f"run {run_id} is stored: `runs show {run_id}`") from None


def ask(
    url: str | None, token: str | None, config: Path | None, question: Callable[[BridgeClient], Awaitable[Json]]
) -> Json:
    """What the bridge at the address that the options name answers."""
    return _run(_call(address_of(url, config), token_of(token), question))


async def _call(url: str, token: str | None, ask: Callable[[BridgeClient], Awaitable[Json]]) -> Json:
    async with connected(url, token) as bridge:
        return await ask(bridge)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise CommandFailed(Exit.INTERRUPTED, "stopped") from None


def _in_doubt(run: Json) -> list[str]:
    """What to do about a run in doubt; nothing for any other."""
    if run["state"] != State.IN_DOUBT:
        return []
    run_id = run["run_id"]
    return [
        f"run {run_id} is in doubt: whether its execution was started is not known, and may never be",
        f"look again: `runs show {run_id}`; decide: `runs resolve {run_id}`",
    ]
