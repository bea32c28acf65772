"""The command `demo`: a complete round trip in one process, with a sandbox crew API and a callback receiver."""

import asyncio
import base64
import itertools
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
import uvloop
from aiohttp import web
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from standardwebhooks import Webhook

from bridge.cli._client import BridgeClient, Json
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._output import progress_text
from bridge.cli._tables import STYLES, as_line
from bridge.core.runs.model import FINAL_STATES
from bridge.local import Deployment, local_bridge
from bridge.observability import logging as logs
from bridge.sandbox import SandboxSettings, parse_run_time

app = typer.Typer()

TOPICS = ("tidal power", "the history of tea", "quiet trains", "urban bees", "a run that fails")
TIMEOUT = 60.0  # seconds, until the last of these has ended
POLL_INTERVAL = 0.1
BAR_WIDTH = 16  # characters
SUBMIT_INTERVAL = 3.0  # seconds between two runs, with `--stay`

_RUN_TIME = parse_run_time("uniform:1:4")
_POLL = {"min_interval": "200ms", "max_interval": "500ms"}
_HANG_UP = {"on": "kickoff", "do": "hang_up_before", "times": None}
DEPLOYMENTS = (
    Deployment(SandboxSettings(run_time=_RUN_TIME), {"research": {"poll": _POLL}}),
    Deployment(
        SandboxSettings(run_time=_RUN_TIME, human_questions=1, human_status="paused"),
        {"reviewed": {"poll": _POLL, "human_input": True}},
    ),
    Deployment(SandboxSettings(run_time=_RUN_TIME, faults=(_HANG_UP,)), {"doubtful": {"poll": _POLL}}),
)
"""With `--stay`: also a crew that asks a human, and one that confirms no kickoff."""

NEXT = """
What next:
  {0} demo --stay   the console in a browser, with a question and a run in doubt
  {0} dev           a bridge to test your own service against (docs/sandbox.md)
  "Try it" in README.md: a bridge with a settings file, over HTTP and RabbitMQ"""


@app.command(epilog="Example: kickoff-bridge demo --stay")
def demo(
    stay: Annotated[bool, typer.Option("--stay", help="Keep running, with the console, until interrupted.")] = False,
) -> None:
    """Start a sandbox crew and a bridge, send a few kickoffs, show them live, and print each completion event."""
    logs.configure("error", "auto")
    try:
        uvloop.run(_demo(stay=stay))
    except TimeoutError:
        raise CommandFailed(Exit.BUG, f"the demo did not finish within {TIMEOUT:g} s") from None
    except KeyboardInterrupt:
        if not stay:
            raise


async def _demo(*, stay: bool) -> None:
    console = Console(highlight=False)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    deployments = [deployment for deployment in DEPLOYMENTS if stay or "research" in deployment.crews]
    async with _receiver(secret) as (events, callback_url), local_bridge(deployments, secret, {}) as local:
        console.print(f"A stand-in for your crew:  {local.crew_apis[0]}")
        console.print(f"The bridge:                {local.url}")
        console.print(f"A receiver of its events:  {callback_url}\n")
        console.print(f"Sent {len(TOPICS)} kickoff requests (POST {local.url}/v1/runs):\n", style="bold")
        bridge = BridgeClient(local.url, None)
        async with asyncio.timeout(TIMEOUT):
            await _show_runs(bridge, [await _submit(bridge, topic, callback_url) for topic in TOPICS], console)
            _show_events([await events.get() for _ in TOPICS], console)
        if stay:
            console.print(f"\nConsole: {local.url}/ (stop with Ctrl+C)", style="bold")
            await _keep_busy(bridge, callback_url)
    command = sys.argv[0] if sys.argv[0].startswith(".") else "kickoff-bridge"  # in a checkout: `.venv/bin/…`
    console.print(NEXT.format(command), markup=False, soft_wrap=True)


def _show_events(events: list[Json], console: Console) -> None:
    """Print one event in full, and a line for each of the others."""
    first, *others = sorted(events, key=lambda event: event["type"] != "run.succeeded")
    console.print(
        "\nEach run ended with one event, signed and sent to the receiver. One of them in full:\n", style="bold"
    )
    console.print_json(json.dumps(first))
    console.print("\nThe others:\n", style="bold")
    for event in others:
        data = event["data"]
        outcome = as_line(data["result"] or data["error"]["message"])
        console.print(f"  {event['type']:<14}  {outcome}", markup=False, soft_wrap=True)


async def _keep_busy(bridge: BridgeClient, callback_url: str) -> None:
    """Leave a question and a run in doubt to play with, and submit runs forever."""
    for crew in ("reviewed", "doubtful"):
        await _submit(bridge, "a draft", callback_url, crew)
    for number in itertools.count():
        await _submit(bridge, TOPICS[number % len(TOPICS)], callback_url, key=f"demo-{number}")
        await asyncio.sleep(SUBMIT_INTERVAL)


async def _submit(
    bridge: BridgeClient, topic: str, callback_url: str, crew: str = "research", key: str | None = None
) -> Json:
    inputs = {"topic": topic} | ({"sandbox_outcome": "failure"} if "fails" in topic else {})
    request = {"crew": crew, "inputs": inputs, "callback_url": callback_url}
    return await asyncio.to_thread(bridge.submit, {**request, "idempotency_key": key or f"demo-{topic}"})


async def _show_runs(bridge: BridgeClient, runs: list[Json], console: Console) -> None:
    """Show the runs in a live table until all have ended."""
    with Live(_table(runs), console=console, refresh_per_second=10) as live:
        while any(run["state"] not in FINAL_STATES for run in runs):
            await asyncio.sleep(POLL_INTERVAL)
            runs = [await asyncio.to_thread(bridge.run, run["run_id"]) for run in runs]
            live.update(_table(runs))


def _table(runs: list[Json]) -> Table:
    table = Table("topic", "run", "state", "progress", "", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for topic, run in zip(TOPICS, runs, strict=True):
        state, progress = run["state"], run.get("progress") or {}
        done, total = progress.get("completed") or 0, progress.get("total") or 1
        over = state in FINAL_STATES
        bar = ProgressBar(total=1.0, completed=1.0 if over else done / total, width=BAR_WIDTH)
        table.add_row(topic, run["run_id"][:18], f"[{STYLES.get(state, 'white')}]{state}[/]", bar, progress_text(run))
    return table


@asynccontextmanager
async def _receiver(secret: str) -> AsyncIterator[tuple[asyncio.Queue[Any], str]]:
    """Run a webhook receiver as a user would write it: verify the signature, process the event, return 204."""
    events: asyncio.Queue[Any] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        events.put_nowait(Webhook(secret).verify(body, dict(request.headers)))
        return web.Response(status=204)

    receiver = web.Application()
    receiver.add_routes([web.post("/events", take)])
    runner = web.AppRunner(receiver)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield events, f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        await runner.cleanup()
