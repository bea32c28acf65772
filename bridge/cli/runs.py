"""The commands `runs list`, `runs show`, `runs cancel`, `runs resume`, `runs resolve`, and `runs release`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli._client import Json, call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, OfCrew, Token, Url, Watch, Wide
from bridge.cli._output import print_json, print_page, print_run, run_view, runs_view
from bridge.cli._watch import watch_bridge
from bridge.core.runs.model import FINAL_STATES, State

app = typer.Typer(name="runs", help="List and show runs, and send them commands.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Reason, for the audit log and the run's history.")]


@app.command("list", epilog="Example: kickoff-bridge runs list --state in_doubt --crew research")
def list_runs(
    state: Annotated[State | None, typer.Option(help="Only runs in this state.")] = None,
    crew: OfCrew = None,
    limit: Annotated[int, typer.Option(help="Page size.", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Continue after a page; printed at its end.")] = None,
    wide: Wide = False,
    watch: Watch = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """List runs, newest first."""
    query = {"state": state, "crew": crew, "cursor": cursor, "limit": str(limit)}
    wanted = {name: value for name, value in query.items() if value is not None}
    if watch:
        watch_bridge(
            url,
            token,
            config,
            lambda bridge: bridge.runs(wanted),
            render=lambda page, width: runs_view(page, None if wide else width, time.time()),
            as_json=as_json,
            ended=lambda _: False,
        )
    else:
        page = call_bridge(url, token, config, lambda bridge: bridge.runs(wanted))
        print_page(page, as_json=as_json, wide=wide)


@app.command("show", epilog="Example: kickoff-bridge runs show RUN_ID --watch")
def show_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    watch: Watch = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show one run with its question, history, and deliveries; with --watch, until it ends."""
    if watch:
        watch_bridge(
            url,
            token,
            config,
            lambda bridge: bridge.run(run_id),
            render=lambda run, _: run_view(run, time.time()),
            as_json=as_json,
            ended=lambda run: run["state"] in FINAL_STATES,
        )
    else:
        print_run(call_bridge(url, token, config, lambda bridge: bridge.run(run_id)), as_json=as_json)


@app.command("cancel", epilog="Example: kickoff-bridge runs cancel RUN_ID --reason 'ordered twice'")
def cancel_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Cancel a run: stop tracking it, and try to stop the execution if the deployment supports that."""
    _apply_command(run_id, "cancel", {"reason": reason}, as_json, url, token, config)


@app.command("resume", epilog="Example: kickoff-bridge runs resume RUN_ID 'Name the sources.'")
def resume_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    feedback: Annotated[str | None, typer.Argument(help="Feedback for the crew, which then repeats the task.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Approve; feedback is then not sent.")] = False,
    task_id: Annotated[str | None, typer.Option(help="Only if the run waits for input on this task.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Submit human input to a waiting run, at most once per question."""
    if feedback is None and not approve:
        raise CommandFailed(Exit.USAGE, "give feedback or --approve")
    answer = {"feedback": feedback, "approve": approve, "task_id": task_id}
    _apply_command(run_id, "resume", {k: v for k, v in answer.items() if v is not None}, as_json, url, token, config)


@app.command("resolve", epilog="Example: kickoff-bridge runs resolve RUN_ID --adopt KICKOFF_ID")
def resolve_run(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    retry: Annotated[bool, typer.Option("--retry", help="Start it again; a second execution is possible.")] = False,
    adopt: Annotated[str | None, typer.Option(metavar="ID", help="Track the execution with this kickoff id.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --adopt: even if the crew API does not know the id.")
    ] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="End the run as failed.")] = False,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Resolve a run in doubt with exactly one of --retry, --adopt, --abandon."""
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


@app.command("release", epilog="Example: kickoff-bridge runs release RUN_ID")
def release_runs(
    run_id: Annotated[str | None, typer.Argument(help="The run's id. Omit it to release every held run.")] = None,
    reason: Annotated[str | None, typer.Option(help="Reason, for the audit log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Let runs start that `run --hold` holds."""
    body = {"run_id": run_id, "reason": reason}
    response = call_bridge(url, token, config, lambda bridge: bridge.release(body))
    if as_json:
        print_json(response)
    else:
        print(f"{response['released']} released")


def _apply_command(
    run_id: str, verb: str, body: Json, as_json: bool, url: str | None, token: str | None, config: Path | None
) -> None:
    print_run(call_bridge(url, token, config, lambda bridge: bridge.command_run(run_id, verb, body)), as_json=as_json)
