"""The bridge's HTTP API, as the command line uses it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from bridge.cli.outcome import CommandFailed, Exit

Json = dict[str, Any]


class BridgeClient:
    """Calls a running bridge; what it refuses ends the command with the bridge's own sentence."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def submit(self, request: Json, idempotency_key: str | None) -> Json:
        """Send a kickoff request; gives back what the bridge stored."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return await self._call("POST", "/v1/runs", data=orjson.dumps(request), headers=headers)

    async def run(self, run_id: str) -> Json:
        """One run with its deliveries."""
        return await self._call("GET", f"/v1/runs/{run_id}")

    async def steer(self, run_id: str, verb: str, body: Json) -> Json:
        """Cancel a run, or decide about one in doubt."""
        return await self._call("POST", f"/v1/runs/{run_id}/{verb}", data=orjson.dumps(body))

    async def runs(self, query: Mapping[str, str]) -> Json:
        """A page of runs, newest first."""
        return await self._call("GET", "/v1/runs", params=query)

    async def _call(self, method: str, path: str, **options: Any) -> Json:
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        try:
            async with self._session.request(method, self._url + path, headers=headers, **options) as response:
                body: Json = orjson.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = f"no answer from the bridge at {self._url}: {type(error).__name__}"
            raise CommandFailed(Exit.UNAVAILABLE, reason, "is it running? (--url, BRIDGE_URL)") from None
        except orjson.JSONDecodeError:
            raise CommandFailed(Exit.UNAVAILABLE, f"what answers at {self._url} is not a bridge") from None
        if response.status >= 400:  # noqa: PLR2004 - the boundary of HTTP errors
            raise _refusal(response.status, body)
        return body


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[BridgeClient]:
    """A client for the bridge at this address."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=90)) as session:
        yield BridgeClient(session, url)


def _refusal(status: int, problem: Json) -> CommandFailed:
    sentence = problem.get("detail") or problem.get("title") or f"HTTP {status}"
    field = f"{problem['field']}: " if problem.get("field") else ""
    code = Exit.UNAVAILABLE if status in {429, 502, 503, 504} else Exit.USAGE
    return CommandFailed(code, f"{problem.get('code', status)}: {field}{sentence}")
