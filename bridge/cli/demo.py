"""The command `demo`: a complete round trip in one process, with a sandbox crew API and a callback receiver."""

import asyncio
import base64
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

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
TIMEOUT = 60.0  # seconds, for the whole demo
POLL_INTERVAL = 0.1


@app.command(epilog="Example: kickoff-bridge demo")
def demo() -> None:
    """Start a sandbox crew and a bridge, send a few kickoffs, show them live, and print each completion event."""
    logs.configure("error", "auto")
    try:
        uvloop.run(asyncio.wait_for(_demo(), TIMEOUT))
    except TimeoutError:
        raise CommandFailed(Exit.BUG, f"the demo did not finish within {TIMEOUT:g} s") from None


async def _demo() -> None:
    console = Console(highlight=False)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with tempfile.TemporaryDirectory(prefix="kickoff-bridge-") as folder:
        async with AsyncExitStack() as stack:
            crew = SandboxSettings(run_time=parse_run_time("uniform:1:4"))
            crew_url = await stack.enter_async_context(running(crew))
            events, callback_url = await stack.enter_async_context(_receiver(secret))
            settings = _settings(crew_url, crew.token, secret, Path(folder) / "demo.db")
            bridge_url = await stack.enter_async_context(daemon.serving(settings))
            console.print(f"crew API (sandbox) at {crew_url}, bridge at {bridge_url}, events to {callback_url}\n")
            bridge = BridgeClient(bridge_url, None)
            await _show_runs(bridge, [await _submit(bridge, topic, callback_url) for topic in TOPICS], console)
            console.print("\nCompletion events, signed and delivered to the callback URL:")
            for _ in TOPICS:
                console.print(orjson.dumps(await events.get()).decode(), soft_wrap=True, markup=False)
    console.print('\nNext: "Try it" in README.md starts a sandbox and a bridge of your own.', style="bold")


async def _submit(bridge: BridgeClient, topic: str, callback_url: str) -> Json:
    inputs = {"topic": topic} | ({"sandbox_outcome": "failure"} if "fails" in topic else {})
    request = {"crew": "research", "inputs": inputs, "callback_url": callback_url}
    return await asyncio.to_thread(bridge.submit, {**request, "idempotency_key": f"demo-{topic}"})


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


def _settings(crew_url: str, crew_token: str, secret: str, store: Path) -> Settings:
    return Settings.model_validate(
        {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{store}"},
            "crews": {
                "research": {
                    "url": crew_url,
                    "token": crew_token,
                    "poll": {"min_interval": "200ms", "max_interval": "500ms"},
                }
            },
            "callbacks": {"secret": secret, "allow_private": True},
        }
    )


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
