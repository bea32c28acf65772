"""The command `sandbox`: a stand-in for the crew API, for tests and experiments."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from bridge.cli._errors import CommandFailed, Exit, os_error_text
from bridge.observability import logging as logs
from bridge.sandbox import SandboxSettings, parse_run_time, serve
from bridge.sandbox.dialects import Dialect
from bridge.sandbox.execution import Kind
from bridge.sandbox.inputs import InputsShape
from bridge.sandbox.script import Script
from bridge.sandbox.settings import DEFAULT_PORT, FlowHitlKey, FlowHitlShape, HumanStatus, ResumedStatus
from bridge.sandbox.stream import Parents
from bridge.sandbox.times import RUN_TIME_FORMS

app = typer.Typer()

_DEFAULTS = SandboxSettings()


def _options(panel: str) -> Callable[..., typer.models.OptionInfo]:
    def option(help_text: str, *names: str) -> typer.models.OptionInfo:
        info: typer.models.OptionInfo = typer.Option(*names, help=help_text, rich_help_panel=panel)
        return info

    return option


_listen = _options("Listening")
_crew = _options("Simulated deployment")
_runs = _options("Executions")
_humans = _options("Human input")
_webhooks = _options("Webhooks")
_faults = _options("Faults")


@app.command(epilog="Example: kickoff-bridge sandbox --port 9000 --run-time uniform:1:3")
def sandbox(
    host: Annotated[str, _listen("Address to listen on.")] = _DEFAULTS.host,
    port: Annotated[int, _listen("Port to listen on; 0: any free port.")] = DEFAULT_PORT,
    public_url: Annotated[str | None, _listen("Externally visible URL, for callback URLs.")] = None,
    token: Annotated[str, _listen("Bearer token that callers must send.")] = _DEFAULTS.token,
    ledger_file: Annotated[Path | None, _listen("Keep the ledger in this file and reload it at startup.")] = None,
    kind: Annotated[Kind, _crew("crew: every input is required; flow: none is.")] = "crew",
    inputs: Annotated[str, _crew("Names of the inputs, comma-separated.")] = "topic",
    required_inputs: Annotated[
        str | None, _crew("Those without which a kickoff is refused; reported by /inputs of newer deployments.")
    ] = None,
    dialect: Annotated[Dialect, _crew("Response format of /status; live matches real deployments.")] = "live",
    inputs_shape: Annotated[InputsShape, _crew("Response format of /inputs; list matches real deployments.")] = "list",
    quota: Annotated[int | None, _crew("Refuse kickoffs with 403 after this many executions.")] = None,
    stop: Annotated[bool, _crew("Support POST /stop/{kickoff_id}; otherwise it returns 404.", "--stop")] = False,
    run_time: Annotated[str, _runs(f"Run time in seconds: {RUN_TIME_FORMS}.")] = "uniform:2:6",
    script: Annotated[Path | None, _runs("JSON file with results by input.")] = None,
    failure_rate: Annotated[float, _runs("Fraction of runs that fail, from 0 to 1.")] = 0.0,
    workers: Annotated[int | None, _runs("Concurrent executions; others wait as PENDING.")] = None,
    status_lag: Annotated[float, _runs("Seconds by which /status is later than the webhooks.")] = 0.0,
    seed: Annotated[int, _runs("Seed of run times, failures, and faults.")] = 0,
    human_questions: Annotated[int, _humans("How many times each run waits for human input.")] = 0,
    human_status: Annotated[
        HumanStatus | None, _humans("What /status returns meanwhile; by default, what real deployments return.")
    ] = None,
    resumed_status: Annotated[
        ResumedStatus, _humans("What /status returns for the new id after /resume.")
    ] = "not_found",
    flow_hitl_url: Annotated[str | None, _humans("URL that receives a flow's questions.")] = None,
    flow_hitl_secret: Annotated[str, _humans("Secret that signs a flow's questions.")] = _DEFAULTS.flow_hitl_secret,
    flow_hitl_key: Annotated[
        FlowHitlKey, _humans("text: the whole secret; hex: what follows whsec_, decoded.")
    ] = "text",
    flow_hitl_shape: Annotated[FlowHitlShape, _humans("flat: as the server sends it; nested: as documented.")] = "flat",
    webhook_loss_rate: Annotated[float, _webhooks("Fraction of webhooks that are never sent, from 0 to 1.")] = 0.0,
    webhook_delay: Annotated[float, _webhooks("Maximum delay of webhooks, in seconds.")] = 0.0,
    webhook_duplicate_rate: Annotated[float, _webhooks("Fraction of webhooks that are sent twice, from 0 to 1.")] = 0.0,
    webhook_reorder: Annotated[bool, _webhooks("Send webhooks out of order.", "--webhook-reorder")] = False,
    webhook_timeout: Annotated[float, _webhooks("Timeout for receivers, in seconds.")] = _DEFAULTS.webhook_timeout,
    stream_nested: Annotated[bool, _webhooks("Also stream the events of nested flows.", "--stream-nested")] = False,
    stream_parents: Annotated[
        Parents, _webhooks("threads: inner executions run in threads, without a parent; absent: as in older libraries.")
    ] = "reported",
    kickoff_delay: Annotated[float, _faults("Seconds between the start of an execution and the response.")] = 0.0,
    kickoff_fault_rate: Annotated[float, _faults("Fraction of kickoffs that return 503, from 0 to 1.")] = 0.0,
    status_fault_rate: Annotated[float, _faults("Fraction of polls that return 503, from 0 to 1.")] = 0.0,
    resume_fault_rate: Annotated[float, _faults("Fraction of resumes that return 503, from 0 to 1.")] = 0.0,
    stop_fault_rate: Annotated[float, _faults("Fraction of stops that return 503, from 0 to 1.")] = 0.0,
    fault: Annotated[list[str] | None, _faults("A fault rule as JSON, as /_faults accepts it; repeatable.")] = None,
) -> None:
    """Run a stand-in for a deployed crew: webhooks, human input, and faults; /_ledger shows all received calls."""
    try:
        settings = SandboxSettings(
            host=host,
            port=port,
            public_url=public_url,
            token=token,
            ledger_file=ledger_file,
            kind=kind,
            inputs=input_names(inputs),
            required_inputs=None if required_inputs is None else input_names(required_inputs),
            status_lag=status_lag,
            dialect=dialect,
            inputs_shape=inputs_shape,
            quota=quota,
            stop=stop,
            run_time=parse_run_time(run_time),
            failure_rate=failure_rate,
            workers=workers,
            seed=seed,
            human_questions=human_questions,
            human_status=human_status,
            resumed_status=resumed_status,
            flow_hitl_url=flow_hitl_url,
            flow_hitl_secret=flow_hitl_secret,
            flow_hitl_key=flow_hitl_key,
            flow_hitl_shape=flow_hitl_shape,
            webhook_loss_rate=webhook_loss_rate,
            webhook_delay=webhook_delay,
            webhook_duplicate_rate=webhook_duplicate_rate,
            webhook_reorder=webhook_reorder,
            webhook_timeout=webhook_timeout,
            stream_nested=stream_nested,
            stream_parents=stream_parents,
            kickoff_delay=kickoff_delay,
            kickoff_fault_rate=kickoff_fault_rate,
            status_fault_rate=status_fault_rate,
            resume_fault_rate=resume_fault_rate,
            stop_fault_rate=stop_fault_rate,
            faults=tuple(json.loads(rule) for rule in fault or ()),
            script=() if script is None else read_script(script),
        )
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, str(error)) from None
    logs.configure("info", "auto")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        _serve(settings)


def read_script(file: Path) -> tuple[Mapping[str, object], ...]:
    """Read the entries of a script from a JSON file."""
    try:
        entries = json.loads(file.read_bytes())
    except OSError as error:
        raise CommandFailed(Exit.USAGE, f"--script: cannot read {os_error_text(error)}") from None
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"--script: {file} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise CommandFailed(Exit.USAGE, f"--script: {file} must contain a list of entries")
    try:
        Script(entries)
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, f"--script: {error}") from None
    return tuple(entries)


def input_names(text: str) -> tuple[str, ...]:
    """Return the names of a list that is separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _serve(settings: SandboxSettings) -> None:
    def print_address(url: str) -> None:
        print(f"sandbox crew API at {url}, token {settings.token}; ledger at {url}/_ledger", flush=True)

    try:
        uvloop.run(serve(settings, print_address))
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise CommandFailed(
            Exit.UNAVAILABLE, f"--host, --port: cannot listen on {where}: {os_error_text(error)}"
        ) from None
