"""Show what a bridge returns, and how it changes (`--watch`)."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from bridge.cli._client import BridgeClient, Json, call_bridge
from bridge.cli._output import print_json

INTERVAL = 2.0  # seconds between two calls


def watch_bridge(
    url: str | None,
    token: str | None,
    config: Path | None,
    call: Callable[[BridgeClient], Json],
    *,
    render: Callable[[Json, int], RenderableType],
    as_json: bool,
    ended: Callable[[Json], bool],
) -> None:
    """Repeat a call and show each result until `ended` is true for one, or until Ctrl-C.

    `render` returns a result for a terminal of this width. As JSON, a result is printed when it has changed.
    """
    out = Console(highlight=False)  # which breaks long lines

    def repeat(bridge: BridgeClient) -> Json:
        last: Json = {}
        with nullcontext() if as_json else Live(console=out, auto_refresh=False) as live:
            while True:
                result = call(bridge)
                if live is not None:
                    live.update(render(result, out.width), refresh=True)
                elif result != last:
                    print_json(result)
                if ended(result):
                    return result
                last = result
                time.sleep(INTERVAL)

    call_bridge(url, token, config, repeat)
