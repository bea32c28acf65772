"""The verb `sandbox`: the crew API's stand-in, for trying out and for tests."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from bridge.cli._errors import CommandFailed, Exit
from bridge.sandbox import SandboxSettings, parse_run_time, serve
from bridge.sandbox.settings import DEFAULT_PORT, Dialect, FlowHitlShape, HumanStatus, InputsShape, Kind, ResumedStatus
from bridge.sandbox.times import RUN_TIME_FORMS

_DEFAULTS = SandboxSettings()


def _options(panel: str) -> Callable[..., typer.models.OptionInfo]:
    def option(help_text: str, *names: str) -> typer.models.OptionInfo:
        info: typer.models.OptionInfo = typer.Option(*names, help=help_text, rich_help_panel=panel)
        return info

    return option


_listen = _options("Where it listens")
_crew = _options("The deployment it plays")
_runs = _options("Executions")
_humans = _options("Humans")
_webhooks = _options("Webhooks")
_faults = _options("Faults")


def sandbox(
    host: Annotated[str, _listen("The address to listen on.")] = _DEFAULTS.host,
    port: Annotated[int, _listen("The port to listen on; 0: any free one.")] = DEFAULT_PORT,
    public_url: Annotated[str | None, _listen("Its address as others see it, for callback URLs.")] = None,
    token: Annotated[str, _listen("The bearer token that callers must send.")] = _DEFAULTS.token,
    ledger_file: Annotated[
        Path | None, _listen("Keep the ledger in this file and go on from it after a start.")
    ] = None,
    kind: Annotated[Kind, _crew("crew: every input is required; flow: none is.")] = "crew",
    inputs: Annotated[str, _crew("The names of the inputs, separated by commas.")] = "topic",
    dialect: Annotated[Dialect, _crew("How /status speaks; live is what real deployments say.")] = "live",
    inputs_shape: Annotated[InputsShape, _crew("How /inputs lists the names; list is what was seen live.")] = "list",
    quota: Annotated[int | None, _crew("Refuse kickoffs with 403 after so many executions.")] = None,
    stop: Annotated[bool, _crew("Offer POST /stop/{kickoff_id}; without it that is a 404.", "--stop")] = False,
    run_time: Annotated[str, _runs(f"How long a run takes, in seconds: {RUN_TIME_FORMS}.")] = "uniform:2:6",
    failure_rate: Annotated[float, _runs("The share of runs that fail, from 0 to 1.")] = 0.0,
    workers: Annotated[int | None, _runs("How many run at once; the others wait as PENDING.")] = None,
    seed: Annotated[int, _runs("The same seed gives the same run times, failures and faults.")] = 0,
    human_questions: Annotated[int, _humans("How often each run waits for a human.")] = 0,
    human_status: Annotated[
        HumanStatus, _humans("What /status says meanwhile; not_found was seen live.")
    ] = "not_found",
    resumed_status: Annotated[ResumedStatus, _humans("What the id that /resume gives leads to.")] = "not_found",
    flow_hitl_url: Annotated[str | None, _humans("Where the questions of a flow go.")] = None,
    flow_hitl_secret: Annotated[str, _humans("What signs the questions of a flow.")] = _DEFAULTS.flow_hitl_secret,
    flow_hitl_shape: Annotated[FlowHitlShape, _humans("flat: as in the server; nested: as documented.")] = "flat",
    webhook_loss: Annotated[float, _webhooks("The share of webhooks that is never sent, from 0 to 1.")] = 0.0,
    webhook_delay: Annotated[float, _webhooks("Webhooks come up to so many seconds late.")] = 0.0,
    webhook_doubling: Annotated[float, _webhooks("The share of webhooks that is sent twice, from 0 to 1.")] = 0.0,
    webhook_shuffle: Annotated[bool, _webhooks("Let webhooks overtake each other.", "--webhook-shuffle")] = False,
    webhook_timeout: Annotated[float, _webhooks("Seconds that a receiver has to answer.")] = _DEFAULTS.webhook_timeout,
    stream_nested: Annotated[bool, _webhooks("Stream the events of inner flows, too.", "--stream-nested")] = False,
    kickoff_delay: Annotated[float, _faults("Seconds between the start of a run and the answer.")] = 0.0,
    kickoff_fault_rate: Annotated[float, _faults("The share of kickoffs answered 503, from 0 to 1.")] = 0.0,
    status_fault_rate: Annotated[float, _faults("The share of looks answered 503, from 0 to 1.")] = 0.0,
    resume_fault_rate: Annotated[float, _faults("The share of resumes answered 503, from 0 to 1.")] = 0.0,
    stop_fault_rate: Annotated[float, _faults("The share of stops answered 503, from 0 to 1.")] = 0.0,
    fault: Annotated[list[str] | None, _faults("A fault rule in JSON, as /_faults takes it; may be repeated.")] = None,
) -> None:
    """Stand in for a deployed crew: the crew API with webhooks, humans and faults; what it saw is at /_ledger."""
    try:
        settings = SandboxSettings(
            host=host,
            port=port,
            public_url=public_url,
            token=token,
            ledger_file=ledger_file,
            kind=kind,
            inputs=tuple(name.strip() for name in inputs.split(",") if name.strip()),
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
            flow_hitl_shape=flow_hitl_shape,
            webhook_loss=webhook_loss,
            webhook_delay=webhook_delay,
            webhook_doubling=webhook_doubling,
            webhook_shuffle=webhook_shuffle,
            webhook_timeout=webhook_timeout,
            stream_nested=stream_nested,
            kickoff_delay=kickoff_delay,
            kickoff_fault_rate=kickoff_fault_rate,
            status_fault_rate=status_fault_rate,
            resume_fault_rate=resume_fault_rate,
            stop_fault_rate=stop_fault_rate,
            faults=tuple(json.loads(rule) for rule in fault or ()),
        )
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, str(error)) from None
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        _serve(settings)


def _serve(settings: SandboxSettings) -> None:
    def signal_completion(url: str) -> None:
        print(f"sandbox crew API at {url}, token {settings.token}; ledger at {url}/_ledger", flush=True)

    try:
        uvloop.run(serve(settings, signal_completion))
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"cannot listen: {error.strerror}") from None
