"""Start sandboxes and a bridge that uses them: free ports, crew webhooks, and a store that is removed at the end."""

import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from bridge import daemon
from bridge.composition.build import Bridge
from bridge.config import Settings
from bridge.sandbox import SandboxSettings, running
from bridge.supervisor import GRACE

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Deployment:
    """A sandbox, and the crews for which it stands in: their settings by name, without `url` and `token`.

    `routes`: what it serves besides the crew API.
    """

    sandbox: SandboxSettings
    crews: Mapping[str, Mapping[str, Any]]
    routes: Iterable[web.RouteDef] = field(default=())


@dataclass(frozen=True)
class Local:
    """A running bridge with its URL, and the URLs of the sandboxes in the order of their deployments."""

    bridge: Bridge
    url: str
    crew_apis: Sequence[str]


@asynccontextmanager
async def local_bridge(
    deployments: Sequence[Deployment], callback_secret: str, settings: Mapping[str, Any], grace: float = GRACE
) -> AsyncIterator[Local]:
    """Run a bridge and its sandboxes. Raise pydantic's `ValidationError` if the settings are not valid.

    `callback_secret` signs events to callback URLs; `settings`: further ones, which take precedence; `grace`: the
    seconds that work in progress may take at the end.
    """
    url = f"http://{HOST}:{(port := _free_port())}"
    with tempfile.TemporaryDirectory(prefix="kickoff-bridge-") as folder:
        async with AsyncExitStack() as stack:
            crew_apis, crews = list[str](), dict[str, Any]()
            for one in deployments:
                crew_apis.append(await stack.enter_async_context(running(one.sandbox, routes=one.routes)))
                crew_api = {"url": crew_apis[-1], "token": one.sandbox.token}
                crews |= {name: {**crew_api, **crew} for name, crew in one.crews.items()}
            document = {
                "public_url": url,
                "http": {"host": HOST, "port": port},
                "store": {"url": f"sqlite:///{folder}/bridge.db"},
                "crews": crews,
                "callbacks": {"allow_private": True},
            }
            started = daemon.started(_with_secret(Settings(**_merged(document, settings)), callback_secret), grace)
            bridge = await stack.enter_async_context(started)
            yield Local(bridge, url, crew_apis)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base with the changes, section by section."""
    both = {name for name in base.keys() & changes.keys() if isinstance(changes[name], Mapping)}
    return {**base, **changes, **{name: _merged(base[name], changes[name]) for name in both}}


def _with_secret(settings: Settings, secret: str) -> Settings:
    """Return the settings with a secret that may be public, which validated settings refuse."""
    callbacks = settings.callbacks.model_copy(update={"secret": (SecretStr(secret),)})
    return settings.model_copy(update={"callbacks": callbacks})


def _free_port() -> int:
    """Return a port for the bridge, whose own URL is one of its settings."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port
