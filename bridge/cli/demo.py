"""The command `demo`: a complete round trip in one process, with a sandbox crew API and a callback receiver."""

import asyncio
import base64
import itertools
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import uvloop
from aiohttp import web
from rich.console import Console
from rich.live import Live
from rich.table import Table
from standardwebhooks import Webhook

from bridge import daemon
from bridge.cli._client import BridgeClient, Json
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._tables import STYLES
from bridge.config import Settings
from bridge.core.runs.model import FINAL_STATES
from bridge.observability import logging as logs
from bridge.sandbox import SandboxSettings, parse_run_time, running

app = typer.Typer()

TOPICS = ("tidal power", "the history of tea", "quiet trains", "urban bees", "a run that fails")
TIMEOUT = 60.0  # seconds, until the last of these has ended
POLL_INTERVAL = 0.1
SUBMIT_INTERVAL = 3.0  # seconds between two runs, with `--stay`

_RUN_TIME = parse_run_time("uniform:1:4")
CREWS = {
    "research": SandboxSettings(run_time=_RUN_TIME),
    "reviewed": SandboxSettings(run_time=_RUN_TIME, human_questions=1, human_status="paused"),
    "doubtful": SandboxSettings(run_time=_RUN_TIME, faults=({"on": "kickoff", "do": "hang_up_before", "times": None},)),
}
"""With `--stay`: a crew that asks a human, and one that confirms no kickoff."""


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
    with tempfile.TemporaryDirectory(prefix="kickoff-bridge-") as folder:
        async with AsyncExitStack() as stack:
            crews = {
                name: await stack.enter_async_context(running(crew))
                for name, crew in CREWS.items()
                if stay or name == "research"
            }
            events, callback_url = await stack.enter_async_context(_receiver(secret))
            settings = _settings(crews, secret, Path(folder) / "demo.db")
            bridge_url = await stack.enter_async_context(daemon.serving(settings))
            console.print(
                f"crew API (sandbox) at {crews['research']}, bridge at {bridge_url}, events to {callback_url}\n"
            )
            bridge = BridgeClient(bridge_url, None)
            async with asyncio.timeout(TIMEOUT):
                await _show_runs(bridge, [await _submit(bridge, topic, callback_url) for topic in TOPICS], console)
                console.print("\nCompletion events, signed and delivered to the callback URL:")
                for _ in TOPICS:
                    console.print(orjson.dumps(await events.get()).decode(), soft_wrap=True, markup=False)
            if stay:
                console.print(f"\nConsole: {bridge_url}/ (stop with Ctrl+C)", style="bold")
                await _keep_busy(bridge, callback_url)
    console.print('\nNext: `demo --stay` shows the console; "Try it" in README.md starts a bridge.', style="bold")


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
    table = Table("topic", "run", "state", "polls", box=None, header_style="bold")
    for topic, run in zip(TOPICS, runs, strict=True):
        state = run["state"]
        table.add_row(topic, run["run_id"], f"[{STYLES.get(state, 'white')}]{state}[/]", str(run.get("polls", "")))
    return table


def _settings(crews: Mapping[str, str], secret: str, store: Path) -> Settings:
    port = _free_port()
    return Settings.model_validate(
        {
            "public_url": f"http://127.0.0.1:{port}",  # so that the crew reports the id of its question
            "http": {"port": port},
            "store": {"url": f"sqlite:///{store}"},
            "crews": {
                name: {
                    "url": url,
                    "token": CREWS[name].token,
                    "human_input": name == "reviewed",
                    "poll": {"min_interval": "200ms", "max_interval": "500ms"},
                }
                for name, url in crews.items()
            },
            "callbacks": {"secret": secret, "allow_private": True},
        }
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
