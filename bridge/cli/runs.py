"""The commands `runs list`, `show`, `cancel`, `resume`, `resolve`, `retry`, and `release`."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli._client import BridgeClient, Json, call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, OfCrew, Since, Token, Until, Url, Watch, Wide, read_time
from bridge.cli._output import print_counts, print_json, print_page, print_run, run_view, runs_view
from bridge.cli._watch import watch_bridge
from bridge.core.runs.model import FINAL_STATES, State

app = typer.Typer(name="runs", help="List, show, and control runs.", no_args_is_help=True)

RunId = Annotated[str | None, typer.Argument(help="The run's id, or its beginning. Omit it to select by --filter.")]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="NAME=VALUE",
        help="All runs that match this parameter of GET /v1/runs, such as crew=research or meta.order=42; repeatable.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --filter: only count the runs that match.")]
Reason = Annotated[str | None, typer.Option(help="Reason, for the audit log and the run's history.")]

SHOWN_RUNS = 20  # of those that match a filter


@app.command("list", epilog="Example: kickoff-bridge runs list --state in_doubt --crew research")
def list_runs(
    state: Annotated[State | None, typer.Option(help="Only runs in this state.")] = None,
    crew: OfCrew = None,
    key: Annotated[str | None, typer.Option(help="Only runs with this idempotency key.")] = None,
    kickoff_id: Annotated[str | None, typer.Option(help="Only runs whose execution has this id.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Only runs whose events have this correlation id.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only runs with this in their meta; repeatable.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Only runs with this error code, such as lost.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="Page size.", min=1, max=200)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Cursor printed at the end of the previous page.")] = None,
    wide: Wide = False,
    watch: Watch = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """List runs, newest first."""
    filter_ = _run_filter(state, crew, key, kickoff_id, correlation_id, meta, error, since, until)
    wanted = filter_ | {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
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


@app.command("show", epilog="Example: kickoff-bridge runs show --filter meta.order=42")
def show_run(
    run_id: RunId = None,
    filter_: Filter = None,
    watch: Watch = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Show a run with its question, history, and deliveries; with --watch, until it ends.

    With --filter, show each run that matches, such as a run and its retries, the oldest first.
    """
    wanted = _wanted_runs(run_id, filter_)
    if watch and run_id is None:
        raise CommandFailed(Exit.USAGE, "--watch applies only to a run id")
    if run_id is None:
        call_bridge(url, token, config, partial(_show_all, wanted, as_json))
    elif watch:
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
    run_id: RunId = None,
    filter_: Filter = None,
    dry_run: DryRun = False,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Cancel a run: stop tracking it, and try to stop the execution if the deployment supports that."""
    _apply_command_to(run_id, filter_, dry_run, "cancel", {"reason": reason}, as_json, url, token, config)


@app.command("resume", epilog="Example: kickoff-bridge runs resume RUN_ID 'Name the sources.'")
def resume_run(
    run_id: Annotated[str, typer.Argument(help="The run's id, or its beginning.")],
    feedback: Annotated[str | None, typer.Argument(help="Feedback for the crew, which then repeats the task.")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Approve without feedback.")] = False,
    task_id: Annotated[str | None, typer.Option(help="Resume only if the run waits for input on this task.")] = None,
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
    run_id: RunId = None,
    filter_: Filter = None,
    dry_run: DryRun = False,
    retry: Annotated[bool, typer.Option("--retry", help="Start it again; this may cause a second execution.")] = False,
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
    """Resolve a run in doubt with exactly one of --retry, --adopt, --abandon; a held run can adopt its execution."""
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
    _apply_command_to(run_id, filter_, dry_run, "resolve", {**chosen[0], "reason": reason}, as_json, url, token, config)


@app.command("retry", epilog="Example: kickoff-bridge runs retry RUN_ID")
def retry_run(
    run_id: RunId = None,
    filter_: Filter = None,
    dry_run: DryRun = False,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key of the new run; a new key retries the run once more.")
    ] = None,
    reason: Reason = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Repeat the request of an ended run as a new run, whose execution is paid for.

    Repeating the command starts nothing more, so it is safe after a timeout: it returns the same new run.
    """
    if filter_ and key is not None:
        raise CommandFailed(Exit.USAGE, "--key applies only to a run id")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise CommandFailed(Exit.USAGE, "--key: must consist of printable ASCII characters")
    if run_id is None or filter_ or dry_run:
        _apply_command_to(run_id, filter_, dry_run, "retry", {"reason": reason}, as_json, url, token, config)
        return
    run, replayed = call_bridge(url, token, config, partial(_retry, run_id, key, {"reason": reason}))
    print_run(run, as_json=as_json)
    if replayed:
        print("an earlier retry created this run; retry this run, or pass a new --key to retry again", file=sys.stderr)


def _retry(run_id: str, key: str | None, body: Json, bridge: BridgeClient) -> tuple[Json, bool]:
    """Retry a run. The default key is that of a retry by filter, and requires the whole id."""
    if key is None:
        run_id = bridge.run(run_id)["run_id"]
        key = f"retry-{run_id}"
    return bridge.retry(run_id, key, body)


def _show_all(wanted: dict[str, str], as_json: bool, bridge: BridgeClient) -> None:
    """Print all runs that match, the oldest first."""
    page = bridge.runs(wanted | {"limit": str(SHOWN_RUNS)})
    if not page["runs"]:
        print("no runs", file=sys.stderr)
    elif page.get("next_cursor"):
        print(f"only the newest {SHOWN_RUNS} runs; `runs list` shows all that match", file=sys.stderr)
    for found in reversed(page["runs"]):
        print_run(bridge.run(found["run_id"]), as_json=as_json)


def _apply_command_to(
    run_id: str | None,
    filter_: list[str] | None,
    dry_run: bool,
    verb: str,
    body: Json,
    as_json: bool,
    url: str | None,
    token: str | None,
    config: Path | None,
) -> None:
    """Send a command to one run, or to all that match a filter."""
    wanted = _wanted_runs(run_id, filter_)
    if run_id is not None:
        if dry_run:
            raise CommandFailed(Exit.USAGE, "--dry-run applies only to --filter")
        _apply_command(run_id, verb, body, as_json, url, token, config)
        return
    body = {**body, "filter": wanted, "dry_run": dry_run}
    counts = call_bridge(url, token, config, lambda bridge: bridge.command_many(f"/v1/runs/{verb}", body))
    print_counts(counts, as_json=as_json, note="; each new run is paid for" if verb == "retry" else "")


def _wanted_runs(run_id: str | None, filter_: list[str] | None) -> dict[str, str]:
    """Return the filter as query parameters of `GET /v1/runs`; raise `CommandFailed` unless it replaces a run id."""
    if (run_id is None) == (not filter_):
        raise CommandFailed(Exit.USAGE, "give either a run id, or at least one --filter NAME=VALUE")
    wanted = _read_pairs("--filter", filter_)
    return wanted | {name: read_time(wanted[name]) or "" for name in ("since", "until") if name in wanted}


def _run_filter(
    state: State | None,
    crew: str | None,
    key: str | None,
    kickoff_id: str | None,
    correlation_id: str | None,
    meta: list[str] | None,
    error: str | None,
    since: str | None,
    until: str | None,
) -> dict[str, str]:
    """Return the options as the query parameters of `GET /v1/runs`."""
    given = {
        "state": state,
        "crew": crew,
        "idempotency_key": key,
        "kickoff_id": kickoff_id,
        "correlation_id": correlation_id,
        "error": error,
        "since": read_time(since),
        "until": read_time(until),
    }
    filter_ = {name: value for name, value in given.items() if value is not None}
    return filter_ | {f"meta.{name}": value for name, value in _read_pairs("--meta", meta).items()}


def _read_pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """Return the values of a repeatable option."""
    pairs = [text.partition("=") for text in texts or ()]
    for name, separator, _ in pairs:
        if not name or not separator:
            raise CommandFailed(Exit.USAGE, f"{option}: '{name}' must have the form NAME=VALUE")
    return {name: value for name, _, value in pairs}


@app.command("release", epilog="Example: kickoff-bridge runs release RUN_ID")
def release_runs(
    run_id: Annotated[str | None, typer.Argument(help="The run's id. Omit it to release every held run.")] = None,
    reason: Annotated[str | None, typer.Option(help="Reason, for the audit log.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Release held runs, so that they can start."""
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
