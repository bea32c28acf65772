"""The command `dev`: a sandbox and a bridge in one process, to test a service against."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import ClientSession
from pydantic import ValidationError

from bridge.adapters.http.long_poll import is_set_within
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli.daemon import run_or_fail
from bridge.cli.sandbox import input_names, read_script
from bridge.config.errors import describe
from bridge.config.placeholders import CALLBACK_SECRET
from bridge.local import Deployment, Local, Situations, local_bridge
from bridge.observability import logging as logs
from bridge.sandbox import SandboxSettings, parse_run_time

app = typer.Typer()

CREW: Mapping[str, Any] = {
    "max_running": 100,
    "requests_per_second": 500,
    "human_input": True,
    "in_doubt_after": "1s",
    "poll": {"min_interval": "100ms", "max_interval": "1s"},
}
"""Settings of each crew: fast, and events of runs in doubt within a second."""
RUN_TIME = "fixed:0.3"
GRACE = 2.0  # seconds for work in progress when it stops
_OPTIONS = {"amqp": "--amqp", "crews": "--crew"}  # by the setting that they become
READY_WITHIN = 30.0  # seconds
READY_INTERVAL = 0.05


@app.command(epilog="Example: kickoff-bridge dev --crew triage --inputs title,text")
def dev(
    crew: Annotated[list[str] | None, typer.Option(help="Name of a crew, by default research; repeatable.")] = None,
    inputs: Annotated[str, typer.Option(help="Names of the inputs, comma-separated; all are required.")] = "topic",
    script: Annotated[Path | None, typer.Option(help="JSON file with results by input.")] = None,
    amqp: Annotated[str | None, typer.Option(help="URL of a RabbitMQ; without it, only HTTP.")] = None,
) -> None:
    """Run a sandbox crew and a bridge to test your service against, until SIGTERM or SIGINT.

    Prints one line of JSON on standard output once it is ready.

    Uses free ports and a temporary store, and requires no token; runs end within a second.

    POST /_emit to the crew API stages what is hard to reproduce.
    """
    logs.configure("info", "auto")
    names = list(dict.fromkeys(crew or ["research"]))
    try:
        sandbox = SandboxSettings(
            run_time=parse_run_time(RUN_TIME),
            inputs=input_names(inputs),
            script=() if script is None else read_script(script),
        )
        run_or_fail(_dev(names, sandbox, amqp))
    except ValidationError as error:
        problems = [(str(problem.path[0]), problem.sentence) for problem in describe(error)]
        lines = [f"{_OPTIONS.get(setting, setting)}: {sentence}" for setting, sentence in problems]
        raise CommandFailed(Exit.USAGE, *lines) from None
    except ValueError as error:
        raise CommandFailed(Exit.USAGE, str(error)) from None


async def _dev(crews: Sequence[str], sandbox: SandboxSettings, amqp: str | None) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    situations = Situations(crews, sandbox.inputs)
    deployment = Deployment(sandbox, dict.fromkeys(crews, CREW), situations.routes())
    settings = {} if amqp is None else {"amqp": {"url": amqp}}
    async with local_bridge([deployment], CALLBACK_SECRET, settings, GRACE) as local:
        situations.use(local)
        printing = asyncio.create_task(_print_once_ready(local, crews, stop))
        await local.bridge.supervisor.wait(stop)
        stop.set()
        await printing


async def _print_once_ready(local: Local, crews: Sequence[str], stop: asyncio.Event) -> None:
    """Print where everything is once the bridge, and its broker, can be used; stop if that takes too long."""
    failed = ["bridge: no response"]
    try:
        async with asyncio.timeout(READY_WITHIN), ClientSession(local.url) as bridge:
            while failed := await _failed_parts(bridge):
                if await is_set_within(stop, READY_INTERVAL):
                    return
    except TimeoutError:
        stop.set()
        raise CommandFailed(Exit.UNAVAILABLE, *failed) from None
    addresses = {"bridge": local.url, "crew_api": local.crew_apis[0], "crews": list(crews)}
    print(json.dumps({**addresses, "events": f"{local.url}/v1/events", "pid": os.getpid()}), flush=True)


async def _failed_parts(bridge: ClientSession) -> list[str]:
    async with bridge.get("/readyz") as response:
        parts = (await response.json())["parts"]
    return [f"{name}: {part['detail']}" for name, part in parts.items() if not part["ok"]]
