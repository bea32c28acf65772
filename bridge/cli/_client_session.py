"""Asking a running bridge: one question over one connection."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from bridge.cli._client import BridgeClient, Json, connected
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import client_token, daemon_address


def ask(
    url: str | None, token: str | None, config: Path | None, question: Callable[[BridgeClient], Awaitable[Json]]
) -> Json:
    """What the bridge at the address that the options name answers."""
    address, secret = daemon_address(url, config), client_token(token)

    async def asked() -> Json:
        async with connected(address, secret) as bridge:
            return await question(bridge)

    try:
        return asyncio.run(asked())
    except KeyboardInterrupt:
        raise CommandFailed(Exit.INTERRUPTED, "stopped") from None
