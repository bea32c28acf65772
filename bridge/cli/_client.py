"""The bridge's HTTP API, as the command line uses it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from bridge.cli._errors import CommandFailed, Exit

Json = dict[str, Any]

_RUN = ("run_id", "crew", "state")
"""What every answer about a run holds, as text."""
_DELIVERY = ("id", "type", "destination", "state")
"""The same of a delivery."""


class BridgeClient:
    """Calls a running bridge; what it refuses ends the command with the bridge's own sentence."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def submit(self, request: Json) -> Json:
        """Send a kickoff request; gives back what the bridge stored."""
        return self._run(await self._call("POST", "/v1/runs", body=request))

    async def run(self, run_id: str) -> Json:
        """One run with its deliveries."""
        return self._run(await self._call("GET", "/v1/runs", run_id))

    async def command_run(self, run_id: str, verb: str, body: Json) -> Json:
        """Cancel a run, answer its question, or decide about one in doubt."""
        return self._run(await self._call("POST", "/v1/runs", run_id, verb, body=body))

    async def runs(self, query: Mapping[str, str]) -> Json:
        """A page of runs, newest first."""
        page = await self._call("GET", "/v1/runs", query=query)
        if not isinstance(page.get("runs"), list) or not all(map(_is_run, page["runs"])):
            raise self._no_bridge()
        return page

    async def deliveries(self, query: Mapping[str, str]) -> Json:
        """A page of deliveries, newest first."""
        page = await self._call("GET", "/v1/deliveries", query=query)
        if not isinstance(page.get("deliveries"), list) or not all(map(_is_delivery, page["deliveries"])):
            raise self._no_bridge()
        return page

    async def delivery(self, delivery_id: str) -> Json:
        """One delivery with its last attempts."""
        return self._delivery(await self._call("GET", "/v1/deliveries", delivery_id))

    async def redeliver(self, delivery_id: str, body: Json) -> Json:
        """Have one delivery sent again."""
        return self._delivery(await self._call("POST", "/v1/deliveries", delivery_id, "redeliver", body=body))

    async def redeliver_many(self, body: Json) -> Json:
        """Have deliveries sent again by filter; how many, under `redelivered`."""
        answer = await self._call("POST", "/v1/deliveries/redeliver", body=body)
        if not isinstance(answer.get("redelivered"), int):
            raise self._no_bridge()
        return answer

    def _delivery(self, answer: Json) -> Json:
        if not _is_delivery(answer) or not isinstance(answer.get("history"), list):
            raise self._no_bridge()
        return answer

    def _run(self, answer: Json) -> Json:
        if not _is_run(answer):
            raise self._no_bridge()
        return answer

    async def _call(
        self, method: str, *steps: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Json:
        try:
            status, text = await self._exchange(method, _path(steps), query, _encoded(body))
        except UnicodeEncodeError:  # Python's name for bytes on the command line that are no text
            raise CommandFailed(Exit.USAGE, "an argument is not UTF-8 text") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = f"no answer from the bridge at {self._url}: {type(error).__name__}"
            raise CommandFailed(Exit.UNAVAILABLE, reason, "is it running? (--url, BRIDGE_URL)") from None
        answer = _decoded(text)
        if not isinstance(answer, dict):
            raise self._no_bridge()
        if status >= 400:  # noqa: PLR2004 - the boundary of HTTP errors
            raise _refusal(status, answer)
        return answer

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: bytes | None
    ) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        async with self._session.request(
            method, self._url + path, params=query, data=body, headers=headers, allow_redirects=False
        ) as response:
            return response.status, await response.read()

    def _no_bridge(self) -> CommandFailed:
        return CommandFailed(Exit.UNAVAILABLE, f"what answers at {self._url} is not a bridge")


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[BridgeClient]:
    """A client for the bridge at this address."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=90)) as session:
        yield BridgeClient(session, url)


def _path(steps: tuple[str, ...]) -> str:
    """The first step is a path of ours; the others may hold anything that a user types."""
    return "/".join([steps[0], *(quote(step, safe="") for step in steps[1:])])


def _encoded(body: Json | None) -> bytes | None:
    """The standard library's JSON, because it writes numbers of any size, as the bridge takes them."""
    return None if body is None else json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


def _decoded(text: bytes) -> Any:
    """The answer's JSON; None for anything else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_run(answer: Any) -> bool:
    return isinstance(answer, dict) and all(isinstance(answer.get(name), str) for name in _RUN)


def _is_delivery(answer: Any) -> bool:
    return isinstance(answer, dict) and all(isinstance(answer.get(name), str) for name in _DELIVERY)


def _refusal(status: int, problem: Json) -> CommandFailed:
    sentence = problem.get("detail") or problem.get("title") or f"HTTP {status}"
    field = f"{problem['field']}: " if problem.get("field") else ""
    code = Exit.UNAVAILABLE if status in {429, 502, 503, 504} else Exit.USAGE
    return CommandFailed(code, f"{problem.get('code', status)}: {field}{sentence}")
