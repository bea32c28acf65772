"""The command `events`: print the events of a running bridge as they occur."""

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import typer

from bridge.cli._client import BridgeClient, Json, call_bridge
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import AsJson, Config, OfCrew, Token, Url
from bridge.cli._output import print_event

app = typer.Typer()

RECONNECT_AFTER = 2.0  # seconds; as the stream itself asks for
REMEMBERED = 5000  # events; after a reconnect, the bridge repeats those of the last seconds
_GAP = "stream.gap"
_MISSING = "connected again; events may be missing here, see `kickoff-bridge runs list --since 1h`"


@app.command(epilog="Example: kickoff-bridge events --crew research")
def events(
    crew: OfCrew = None,
    run: Annotated[str | None, typer.Option("--run", help="Only this run: its id, or the beginning of it.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
) -> None:
    """Print events as they occur, one per line, until Ctrl-C.

    Reconnects when the connection is lost, for example when the bridge restarts, and continues after the last event.
    """
    call_bridge(url, token, config, lambda bridge: _follow(bridge, crew, run, as_json=as_json))


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the stream: an event, or with an empty type only a sign of life."""

    event_id: str
    type: str
    data: str


def read_blocks(lines: Iterable[bytes]) -> Iterator[Block]:
    """Yield the parts of a stream of server-sent events, each of which ends with an empty line."""
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        else:
            yield Block(fields.get("id", ""), fields.get("event", ""), fields.get("data", ""))
            fields = {}


def _follow(bridge: BridgeClient, crew: str | None, run: str | None, *, as_json: bool) -> Json:
    """Print events until an error that a retry cannot fix."""
    run_id = None if run is None else bridge.run(run)["run_id"]
    query = {name: value for name, value in (("crew", crew), ("run_id", run_id)) if value is not None}
    printed, last_id, connected, lost = deque[str](maxlen=REMEMBERED), None, False, False
    while True:
        try:
            for block in read_blocks(bridge.event_lines(query, last_id)):
                if lost:
                    _say("connected again" if last_id else _MISSING)
                connected, lost = True, False
                _print(block, printed, as_json=as_json)
                last_id = block.event_id or last_id
        except CommandFailed as failure:
            if not connected or failure.code is not Exit.UNAVAILABLE:
                raise
            if not lost:
                _say(f"{failure.lines[0]}; trying again until Ctrl-C")
            lost = True
        time.sleep(RECONNECT_AFTER)


def _print(block: Block, printed: deque[str], *, as_json: bool) -> None:
    """Print an event unless it has been `printed`."""
    if block.type == _GAP:
        _say(_MISSING)
    elif block.type and block.event_id not in printed:
        print_event(json.loads(block.data), as_json=as_json)
        printed.append(block.event_id)


def _say(text: str) -> None:
    """Print what is not an event."""
    print(text, file=sys.stderr, flush=True)
