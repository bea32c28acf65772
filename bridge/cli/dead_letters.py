"""Verbs for the queue of dead messages: dead list, show, replay."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge import daemon
from bridge.adapters.amqp.dead_letters import DeadQueue
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, explain
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, load_settings
from bridge.config import secret_values
from bridge.observability import logging as logs

T = TypeVar("T")
Json = dict[str, Any]

_COLUMNS = ("id", "time", "reason", "routing_key", "size")
_WIDEST = 1000  # columns, as in the list of runs


def list_dead(
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 100, as_json: AsJson = False, config: Config = None
) -> None:
    """List the messages in the dead queue, the oldest first."""
    found = _with(config, lambda queue: _first(queue, limit))
    if as_json:
        print(json.dumps({"messages": found}))
        return
    table = Table("id", "time", "reason", "routing key", "bytes", box=None, header_style="bold")
    for message in found:
        table.add_row(*(Text(str(message[name] or "")) for name in _COLUMNS))
    Console(soft_wrap=True, width=_WIDEST).print(table)


def show_dead(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The message's id, as listed.")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show one dead message: why it is there, and the first KiB of its body."""
    message = _with(config, lambda queue: _find(queue, message_id))
    if as_json:
        print(json.dumps(message))
        return
    out = Console(soft_wrap=True, highlight=False)
    for name, value in message.items():
        if value not in (None, ""):
            out.print(f"{name}: {value}", markup=False)


def replay_dead(
    message_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="Which messages.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are in the queue now.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Send dead messages back to where they came from; the same id is still the same run."""
    if bool(message_ids) == every:
        raise CommandFailed(Exit.USAGE, "give either ids or --all")
    wanted = None if every else frozenset(message_ids or ())
    replayed = _with(config, lambda queue: queue.replay(wanted))
    sent, failed = replayed.sent, replayed.failed
    if as_json:
        print(json.dumps({"replayed": sent} | ({"failed": failed} if failed else {})))
    else:
        for line in chain(sent, [f"{len(sent)} sent back"]):
            print(line)
    if failed:
        raise CommandFailed(Exit.UNAVAILABLE, *(f"{one}: not sent back: {reason}" for one, reason in failed.items()))
    if missing := sorted((wanted or frozenset()) - set(sent)):
        raise CommandFailed(Exit.USAGE, *(f"{message_id}: no such message in the queue" for message_id in missing))


async def _first(queue: DeadQueue, limit: int) -> list[Json]:
    found: list[Json] = []
    async for dead in queue.messages():
        found.append(dead.describe())
        if len(found) == limit:
            break
    return found


async def _find(queue: DeadQueue, message_id: str) -> Json:
    async for dead in queue.messages():
        if dead.message_id == message_id:
            return dead.describe()
    raise CommandFailed(Exit.USAGE, f"{message_id}: no such message in the queue")


def _with(config: Path | None, use: Callable[[DeadQueue], Awaitable[T]]) -> T:
    """Open the queue that the settings name, and use it; the broker's trouble ends the command with 69."""

    async def work() -> T:
        async with _opened(config) as queue:
            return await use(queue)

    try:
        return asyncio.run(work())
    except TRANSIENT_ERRORS as error:
        problem = explain(error)
        remedy = [problem.remedy] if problem.remedy else []
        raise CommandFailed(Exit.UNAVAILABLE, f"{problem.summary}: {problem.reason}", *remedy) from None
    except KeyboardInterrupt:
        raise CommandFailed(Exit.INTERRUPTED, "stopped; what was not sent back is still in the queue") from None


@asynccontextmanager
async def _opened(config: Path | None) -> AsyncIterator[DeadQueue]:
    settings = load_settings(config)
    logs.configure("warning", settings.log.format, secrets=secret_values(settings))
    if settings.amqp is None:
        raise CommandFailed(Exit.CONFIGURATION, "amqp: is not set, so there is no dead queue")
    async with daemon.dead_queue(settings.amqp) as queue:
        yield queue
