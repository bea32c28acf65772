"""Client of the bridge's HTTP API for the command line."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from bridge.adapters.http_client import describe_failure
from bridge.cli._errors import CommandFailed, Exit
from bridge.cli._options import client_token, daemon_address

Json = dict[str, Any]

_RUN = ("run_id", "crew", "state")
"""String fields that every representation of a run contains."""
_DELIVERY = ("id", "type", "destination", "state")
"""String fields that every representation of a delivery contains."""
_ADDRESS_FROM = "the address is that of --url, of BRIDGE_URL, or of http.host and http.port in the settings"


class BridgeClient:
    """Calls a running bridge. A refusal ends the command with the `detail` of the bridge's problem."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def submit(self, request: Json) -> Json:
        """Send a kickoff request; return the accepted run."""
        return self._run(await self._call("POST", "/v1/runs", body=request))

    async def run(self, run_id: str) -> Json:
        """Return one run with its deliveries."""
        return self._run(await self._call("GET", "/v1/runs", run_id))

    async def command_run(self, run_id: str, verb: str, body: Json) -> Json:
        """Send a command (`cancel`, `resume`, `resolve`, `retry`) to a run; return the run, or the new one."""
        return self._run(await self._call("POST", "/v1/runs", run_id, verb, body=body))

    async def release(self, body: Json) -> Json:
        """Release held runs; return their number as `released`."""
        response = await self._call("POST", "/v1/runs/release", body=body)
        if not isinstance(response.get("released"), int):
            raise self._not_a_bridge()
        return response

    async def command_many(self, path: str, body: Json) -> Json:
        """Send a command to all runs or deliveries that match the body's `filter`; return `matched` and `done`."""
        response = await self._call("POST", path, body=body)
        if not isinstance(response.get("matched"), int) or not isinstance(response.get("done"), int):
            raise self._not_a_bridge()
        return response

    async def runs(self, query: Mapping[str, str]) -> Json:
        """Return a page of runs, newest first."""
        page = await self._call("GET", "/v1/runs", query=query)
        if not isinstance(page.get("runs"), list) or not all(map(_is_run, page["runs"])):
            raise self._not_a_bridge()
        return page

    async def deliveries(self, query: Mapping[str, str]) -> Json:
        """Return a page of deliveries, newest first."""
        page = await self._call("GET", "/v1/deliveries", query=query)
        if not isinstance(page.get("deliveries"), list) or not all(map(_is_delivery, page["deliveries"])):
            raise self._not_a_bridge()
        return page

    async def delivery(self, delivery_id: str) -> Json:
        """Return one delivery with its last attempts."""
        return self._delivery(await self._call("GET", "/v1/deliveries", delivery_id))

    async def redeliver(self, delivery_id: str, body: Json) -> Json:
        """Redeliver one event; return the delivery."""
        return self._delivery(await self._call("POST", "/v1/deliveries", delivery_id, "redeliver", body=body))

    async def discard(self, delivery_id: str, body: Json) -> Json:
        """Give up on a pending delivery; return it."""
        return self._delivery(await self._call("POST", "/v1/deliveries", delivery_id, "discard", body=body))

    async def crews(self) -> Json:
        """Return the crews that the client may use."""
        response = await self._call("GET", "/v1/crews")
        if not isinstance(response.get("crews"), list):
            raise self._not_a_bridge()
        return response

    async def receivers(self) -> Json:
        """Return the failing and paused receivers."""
        response = await self._call("GET", "/v1/receivers")
        if not isinstance(response.get("receivers"), list):
            raise self._not_a_bridge()
        return response

    async def resume_receivers(self, body: Json) -> Json:
        """Resume paused receivers; return their number as `resumed`."""
        response = await self._call("POST", "/v1/receivers/resume", body=body)
        if not isinstance(response.get("resumed"), int):
            raise self._not_a_bridge()
        return response

    def _delivery(self, response: Json) -> Json:
        if not _is_delivery(response) or not isinstance(response.get("history"), list):
            raise self._not_a_bridge()
        return response

    def _run(self, response: Json) -> Json:
        if not _is_run(response):
            raise self._not_a_bridge()
        return response

    async def _call(
        self, method: str, *steps: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Json:
        try:
            status, text = await self._exchange(method, _path(steps), query, _encoded(body))
        except UnicodeEncodeError:  # the command line contained bytes that are not text
            raise CommandFailed(Exit.USAGE, "an argument is not UTF-8 text") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = f"no response from the bridge at {self._url}: {describe_failure(error)}"
            raise CommandFailed(Exit.UNAVAILABLE, reason, f"is it running? {_ADDRESS_FROM}") from None
        response = _decoded(text)
        if not isinstance(response, dict):
            raise self._not_a_bridge()
        if status >= 400:  # noqa: PLR2004 - the boundary of HTTP errors
            raise _refusal(status, response)
        return response

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: bytes | None
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        async with self._session.request(
            method, self._url + path, params=query, data=body, headers=headers, allow_redirects=False
        ) as response:
            return response.status, await response.read()

    def _not_a_bridge(self) -> CommandFailed:
        return CommandFailed(Exit.UNAVAILABLE, f"the server at {self._url} is not a bridge", _ADDRESS_FROM)


@asynccontextmanager
async def connect(url: str, token: str | None) -> AsyncIterator[BridgeClient]:
    """Open a client for the bridge at this address."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=90)) as session:
        yield BridgeClient(session, url)


def call_bridge(
    url: str | None, token: str | None, config: Path | None, call: Callable[[BridgeClient], Awaitable[Json]]
) -> Json:
    """Connect to the bridge that the options name, make one call, and return its result."""
    address, secret = daemon_address(url, config), client_token(token)

    async def connect_and_call() -> Json:
        async with connect(address, secret) as bridge:
            return await call(bridge)

    try:
        return asyncio.run(connect_and_call())
    except KeyboardInterrupt:
        raise CommandFailed(Exit.INTERRUPTED, "interrupted") from None


def _path(steps: tuple[str, ...]) -> str:
    """Join the path; the first step is fixed, the others may be arbitrary user input and are quoted."""
    return "/".join([steps[0], *(quote(step, safe="") for step in steps[1:])])


def _encoded(body: Json | None) -> bytes | None:
    """Encode with the standard library, which writes numbers of any size, as the bridge accepts them."""
    return None if body is None else json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


def _decoded(text: bytes) -> Any:
    """Return the response's JSON value; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_run(response: Any) -> bool:
    return isinstance(response, dict) and all(isinstance(response.get(name), str) for name in _RUN)


def _is_delivery(response: Any) -> bool:
    return isinstance(response, dict) and all(isinstance(response.get(name), str) for name in _DELIVERY)


def _refusal(status: int, problem: Json) -> CommandFailed:
    message = problem.get("detail") or problem.get("title") or f"HTTP {status}"
    field = f"{problem['field']}: " if problem.get("field") else ""
    code = Exit.UNAVAILABLE if status in {429, 502, 503, 504} else Exit.USAGE
    remedy = ["set BRIDGE_TOKEN (or --token) to the token of a client in http.clients"] if status == 401 else []  # noqa: PLR2004
    return CommandFailed(code, f"{problem.get('code', status)}: {field}{message}", *remedy)
