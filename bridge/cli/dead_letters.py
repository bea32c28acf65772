"""The commands `dead list`, `dead show`, `dead replay`, and `dead drop`."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from bridge import daemon
from bridge.adapters.amqp.dead_letters import DeadQueue
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, explain
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, Wide
from bridge.cli._settings import load_settings
from bridge.cli._tables import Column, Json, as_text, print_table, relative_times
from bridge.config import secret_values
from bridge.observability import logging as logs

app = typer.Typer(
    name="dead", help="List, show, replay, and remove the messages in the dead queue.", no_args_is_help=True
)

T = TypeVar("T")

MESSAGES = (
    Column("id", 1, ("id",)),
    Column("time", 3, ("time",), relative_times),
    Column("reason", 2, ("reason",)),
    Column("routing key", 4, ("routing_key",), least=12),
    Column("bytes", 6, ("size",)),
    Column("detail", 5, ("detail",), least=16),
)


@app.command("list", epilog="Example: kickoff-bridge dead list --limit 20")
def list_dead(
    limit: Annotated[int, typer.Option(help="Maximum number of messages.", min=1)] = 100,
    wide: Wide = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """List the messages in the dead queue, oldest first."""
    found = _use_dead_queue(config, lambda queue: _first(queue, limit))
    if as_json:
        print(json.dumps({"messages": found}))
        return
    print_table("messages", MESSAGES, found, wide=wide)


@app.command("show", epilog="Example: kickoff-bridge dead show order-42")
def show_dead(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="Message id, as in the list.")],
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Show one dead message: the reason, its properties, and the first KiB of its body."""
    message = _use_dead_queue(config, lambda queue: _find(queue, message_id))
    if as_json:
        print(json.dumps(message))
        return
    for name, value in message.items():
        if value not in (None, ""):
            print(f"{name}: {as_text(value)}")


@app.command("replay", epilog="Example: kickoff-bridge dead replay --all")
def replay_dead(
    message_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="Message ids.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay all messages now in the queue.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Send dead messages back to the queue they came from; the idempotency key still refers to the same run."""
    wanted = _wanted(message_ids, every)
    replayed = _use_dead_queue(config, lambda queue: queue.replay(wanted))
    sent, failed = replayed.sent, replayed.failed
    if as_json:
        print(json.dumps({"replayed": sent} | ({"failed": failed} if failed else {})))
    else:
        for line in chain(sent, [f"{len(sent)} sent back"]):
            print(line)
    if failed:
        raise CommandFailed(Exit.UNAVAILABLE, *(f"{one}: not sent back: {reason}" for one, reason in failed.items()))
    _check_found(wanted, sent)


@app.command("drop", epilog="Example: kickoff-bridge dead drop ID")
def drop_dead(
    message_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="Message ids.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Remove all messages now in the queue.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Remove dead messages for good."""
    wanted = _wanted(message_ids, every)
    dropped = _use_dead_queue(config, lambda queue: queue.drop(wanted))
    if as_json:
        print(json.dumps({"dropped": dropped}))
    else:
        for line in chain(dropped, [f"{len(dropped)} removed"]):
            print(line)
    _check_found(wanted, dropped)


def _wanted(message_ids: list[str] | None, every: bool) -> frozenset[str] | None:
    """Return the ids of the messages; None: all."""
    if bool(message_ids) == every:
        raise CommandFailed(Exit.USAGE, "give either message ids or --all")
    return None if every else frozenset(message_ids or ())


def _check_found(wanted: frozenset[str] | None, found: list[str]) -> None:
    if missing := sorted((wanted or frozenset()) - set(found)):
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


def _use_dead_queue(config: Path | None, use: Callable[[DeadQueue], Awaitable[T]]) -> T:
    """Open the dead queue named in the settings and use it; a broker error ends the command with 69."""

    async def work() -> T:
        async with _open(config) as queue:
            return await use(queue)

    try:
        return asyncio.run(work())
    except TRANSIENT_ERRORS as error:
        problem = explain(error)
        remedy = [problem.remedy] if problem.remedy else []
        raise CommandFailed(Exit.UNAVAILABLE, f"{problem.summary}: {problem.reason}", *remedy) from None
    except KeyboardInterrupt:
        raise CommandFailed(
            Exit.INTERRUPTED, "interrupted; messages not sent back or removed are still in the queue"
        ) from None


@asynccontextmanager
async def _open(config: Path | None) -> AsyncIterator[DeadQueue]:
    settings = load_settings(config)
    logs.configure("warning", settings.log.format, secrets=secret_values(settings))
    if settings.amqp is None:
        raise CommandFailed(Exit.CONFIGURATION, "amqp: not set; the dead queue requires RabbitMQ")
    async with daemon.dead_queue(settings.amqp, settings.sources) as queue:
        yield queue
