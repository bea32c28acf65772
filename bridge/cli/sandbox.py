"""The verb `sandbox`: the crew API's stand-in, for trying out and for tests."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from bridge.cli.outcome import CommandFailed, Exit
from bridge.sandbox import SandboxSettings, parse_run_time, serve
from bridge.sandbox.settings import DEFAULT_PORT, Kind
from bridge.sandbox.times import RUN_TIME_FORMS


def sandbox(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0: any free one.")] = DEFAULT_PORT,
    token: Annotated[str, typer.Option(help="The bearer token that callers must send.")] = "sandbox-token",  # noqa: S107
    kind: Annotated[Kind, typer.Option(help="crew: every input is required; flow: none is.")] = "crew",
    inputs: Annotated[str, typer.Option(help="The names of the inputs, separated by commas.")] = "topic",
    run_time: Annotated[str, typer.Option(help=f"How long a run takes, in seconds: {RUN_TIME_FORMS}.")] = "uniform:2:6",
    failure_rate: Annotated[float, typer.Option(help="The share of runs that fail, from 0 to 1.")] = 0.0,
    workers: Annotated[int | None, typer.Option(help="How many run at once; the others wait as PENDING.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same run times and failures.")] = 0,
    ledger_file: Annotated[Path | None, typer.Option(help="Keep the ledger of all POSTs in this file, too.")] = None,
) -> None:
    """Stand in for a deployed crew: kickoff, status, inputs, and a ledger of every POST at /_ledger."""
    try:
        settings = SandboxSettings(
            host=host,
            port=port,
            token=token,
            kind=kind,
            inputs=tuple(name.strip() for name in inputs.split(",") if name.strip()),
            run_time=parse_run_time(run_time),
            failure_rate=failure_rate,
            workers=workers,
            seed=seed,
            ledger_file=ledger_file,
        )
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, str(error)) from None
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        _serve(settings)


def _serve(settings: SandboxSettings) -> None:
    def announce(url: str) -> None:
        print(f"sandbox crew API at {url}, token {settings.token}; ledger at {url}/_ledger", flush=True)

    try:
        uvloop.run(serve(settings, announce))
    except OSError as error:
        raise CommandFailed(Exit.UNAVAILABLE, f"cannot listen: {error.strerror}") from None
