"""Verbs about the runs of a running bridge: list, show, cancel, resume, resolve."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli._client import Json
from bridge.cli._client_session import ask
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, Token, Url
from bridge.cli._output import print_page, print_run

Reason = Annotated[str | None, typer.Option(help="Why; kept in the bridge's log beside your client's name.")]


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
    page = ask(url, token, config, lambda bridge: bridge.runs(wanted))
    print_page(page, as_json=as_json)


def show_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show one run with its deliveries."""
    run = ask(url, token, config, lambda bridge: bridge.run(run_id))
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
    _apply_command(run_id, "cancel", {"reason": reason}, as_json, url, token, config)


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
    _apply_command(run_id, "resume", {k: v for k, v in answer.items() if v is not None}, as_json, url, token, config)


def resolve_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    retry: Annotated[bool, typer.Option("--retry", help="Start it again; you answer for a second execution.")] = False,
    adopt: Annotated[str | None, typer.Option(metavar="ID", help="This kickoff id is its execution.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --adopt: also if the crew API does not know the id.")
    ] = False,
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
            (adopt is not None, {"action": "adopt", "kickoff_id": adopt, **({"force": True} if force else {})}),
            (abandon, {"action": "abandon"}),
        )
        if wanted
    ]
    if len(chosen) != 1:
        raise CommandFailed(Exit.USAGE, "give exactly one of --retry, --adopt ID, --abandon")
    if force and adopt is None:
        raise CommandFailed(Exit.USAGE, "--force applies only to --adopt")
    _apply_command(run_id, "resolve", {**chosen[0], "reason": reason}, as_json, url, token, config)


def _apply_command(
    run_id: str, verb: str, body: Json, as_json: bool, url: str | None, token: str | None, config: Path | None
) -> None:
    print_run(ask(url, token, config, lambda bridge: bridge.command_run(run_id, verb, body)), as_json=as_json)
