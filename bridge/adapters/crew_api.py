"""The crew API over HTTP; every outcome becomes a value of `core.responses`.

A kickoff costs money and has no idempotency key, so its outcome is told apart by what was really written to the
socket: before the first byte nothing can have been started, after it everything is possible. Each kickoff gets a fresh
connection, because a kept one that the server closes at the wrong moment looks like an execution in doubt.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import aiohttp

from bridge.adapters.callbacks.address_guard import ForbiddenAddress, guarded_sockets
from bridge.adapters.http_client import LenientRequest, seen_status
from bridge.core.crew import responses
from bridge.core.crew.flow_questions import same_host
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.reply import TOO_LARGE, Reply
from bridge.core.crew.responses import (
    InDoubt,
    KickoffResponse,
    NoResponse,
    NotStarted,
    Refused,
    Resumed,
    ResumeResponse,
    Started,
    StatusResponse,
)
from bridge.core.http.retry_after import parse_retry_after
from bridge.core.json import compact
from bridge.core.redaction import Redactor
from bridge.ports.lifecycle import Clock, Health

SOURCE = "kickoff-bridge"  # who answers, as a flow is told

Answer = TypeVar("Answer", KickoffResponse, ResumeResponse, StatusResponse)

_TRANSIENT_ERRORS = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    ValueError,
)  # ValueError: a host name that cannot be one


@dataclass(frozen=True, slots=True)
class Limits:
    """How long we wait for an answer, in seconds, and how much of one we hold, in bytes.

    `kickoff`: the slowest honest answer that was seen, with a margin. `inputs` is short, because somebody waits at the
    door. `fast_refusal`: what a 503 may take that refuses for certain.
    """

    kickoff: float = 60.0
    status: float = 30.0
    inputs: float = 5.0
    connect: float = 10.0
    fast_refusal: float = responses.FAST_REFUSAL
    response: int = 8 * 1024 * 1024


LIMITS = Limits()


@dataclass(slots=True)
class _Wire:
    """Whether a byte of the request was handed to the socket."""

    touched: bool = False


class HttpCrewApi:
    """One deployed crew. `rate_limiter` hears of every answer, and gives turns by the same `clock`."""

    def __init__(
        self,
        url: str,
        token: str,
        rate_limiter: RateLimiter,
        sessions: "CrewSessions",
        clock: Clock,
        limits: Limits = LIMITS,
        redactor: Redactor | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._redactor = redactor or Redactor()
        self.use_token(token)
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._queue = asyncio.Lock()
        self._kickoffs, self._polls, self._failed_logins = sessions
        self._limits = limits

    def use_token(self, token: str) -> None:
        """Call with this token from now on."""
        self._headers = {"Authorization": f"Bearer {token}"}

    async def acquire(self) -> None:
        """Wait for this call's turn; first come, first served, and before all looks."""
        self._rate_limiter.waiting += 1
        try:
            async with self._queue:
                while (wait := self._rate_limiter.acquire(self._clock())) > 0.0:  # noqa: ASYNC110 - nobody knows the moment before
                    await asyncio.sleep(wait)
        finally:
            self._rate_limiter.waiting -= 1

    def _without_secrets(self, answer: Answer) -> Answer:
        """What the crew quoted of ours is masked; the id of an execution stays as it is."""
        return answer if isinstance(answer, Started | Resumed) else self._redactor.fields(answer)

    async def kickoff(self, body: dict[str, Any]) -> KickoffResponse:
        """`POST /kickoff`. Never follows a redirect, never repeats; must not be cancelled."""
        reply = await self._post(self._kickoffs, f"{self._url}/kickoff", body, self._headers)
        if not isinstance(reply, Reply):
            return reply
        return self._without_secrets(responses.read_kickoff(reply, self._limits.fast_refusal))

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        """`POST /resume`, with the same care as a kickoff."""
        reply = await self._post(self._kickoffs, f"{self._url}/resume", body, self._headers)
        return self._without_secrets(responses.read_resume(reply)) if isinstance(reply, Reply) else reply

    async def answer_flow(self, callback_url: str, feedback: str) -> ResumeResponse:
        """POST an answer to a flow's callback: without our token, because the address is the permission.

        Only on the crew's own host it may be a private address.
        """
        session = self._kickoffs if same_host(callback_url, self._url) else self._failed_logins
        reply = await self._post(session, callback_url, {"feedback": feedback, "source": SOURCE}, {})
        return self._without_secrets(responses.read_flow_answer(reply)) if isinstance(reply, Reply) else reply

    async def status(self, kickoff_id: str) -> StatusResponse:
        """`GET /status/{kickoff_id}`."""
        assert responses.usable_kickoff_id(kickoff_id)  # it goes into a path
        sent_at = self._clock()
        reply = await self._request("GET", f"/status/{kickoff_id}")
        self._read_response(reply, sent_at)
        return self._without_secrets(responses.read_status(reply)) if isinstance(reply, Reply) else reply

    async def stop(self, kickoff_id: str) -> bool:
        """`POST /stop/{kickoff_id}`, which only some deployments have; never an error."""
        assert responses.usable_kickoff_id(kickoff_id)
        sent_at = self._clock()
        reply = await self._request("POST", f"/stop/{kickoff_id}")
        self._read_response(reply, sent_at)
        return isinstance(reply, Reply) and reply.code == 200

    async def probe(self) -> Health:
        """Whether the crew answers `GET /inputs` with this token; its root path answers 404 even when all is well."""
        match await self._request("GET", "/inputs", self._limits.inputs):
            case Reply(code):
                return Health(ok=code == 200, detail=f"GET /inputs: HTTP {code}")
            case NoResponse(why):
                return Health(ok=False, detail=f"GET /inputs: {why}")

    async def inputs(self) -> tuple[str, ...] | None:
        """The names that `GET /inputs` lists."""
        reply = await self._request("GET", "/inputs", self._limits.inputs)
        return responses.read_inputs(reply) if isinstance(reply, Reply) else None

    async def _request(self, method: str, path: str, seconds: float | None = None) -> Reply | NoResponse:
        """One call that starts nothing: its answer, or what there is instead. `seconds`: its own limit."""
        started = time.monotonic()
        timeout = self._polls.timeout if seconds is None else aiohttp.ClientTimeout(total=seconds)
        with seen_status() as seen:
            try:
                request = self._polls.request(
                    method, self._url + path, headers=self._headers, allow_redirects=False, timeout=timeout
                )
                async with request as response:
                    return await self._read(response, started)
            except _TRANSIENT_ERRORS as error:
                return _cut_reply(seen.code, started, error) or NoResponse(_describe(error))

    async def _post(
        self, session: aiohttp.ClientSession, url: str, body: dict[str, Any], headers: dict[str, str]
    ) -> Reply | NotStarted | InDoubt | Refused:
        """One POST: its answer, or what is known of whether it left."""
        wire = _Wire()
        started, sent_at = time.monotonic(), self._clock()
        with seen_status() as seen:
            try:
                request = session.post(
                    url,
                    data=compact(body),
                    headers=headers | {"Content-Type": "application/json"},
                    allow_redirects=False,
                    trace_request_ctx=wire,
                )
                async with request as response:
                    reply = await self._read(response, started)
            except _TRANSIENT_ERRORS as error:
                if cut := _cut_reply(seen.code, started, error):
                    reply = cut
                else:
                    return self._unanswered_post(error, wire, sent_at)
        self._read_response(reply, sent_at, posted=True)
        return reply

    def _unanswered_post(self, error: Exception, wire: _Wire, sent_at: float) -> NotStarted | InDoubt | Refused:
        """What is known of a POST that got not even a status."""
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddress):
            self._rate_limiter.on_no_response(sent_at, self._clock(), counts=False)
            return Refused("the address may not be called")
        self._rate_limiter.on_no_response(sent_at, self._clock(), counts=not wire.touched)
        return InDoubt(_describe(error)) if wire.touched else NotStarted(_describe(error))

    def _read_response(self, reply: Reply | NoResponse, sent_at: float, *, posted: bool = False) -> None:
        """Tell the pace what an answer says about it; anything but "not now" says that a call was not too much."""
        if isinstance(reply, NoResponse):
            self._rate_limiter.on_no_response(sent_at, self._clock())
        elif reply.code in {429, 503}:
            after = parse_retry_after(reply.retry_after, reply.date)
            self._rate_limiter.on_throttled(sent_at, self._clock(), after)
        elif reply.code in {502, 504}:
            self._rate_limiter.on_no_response(sent_at, self._clock(), counts=False)
        elif reply.cut not in (None, TOO_LARGE):
            self._rate_limiter.on_no_response(sent_at, self._clock(), counts=not posted)
        else:
            self._rate_limiter.on_response(self._clock())

    async def _read(self, response: aiohttp.ClientResponse, started: float) -> Reply:
        """The response; `cut` says why its body is not whole, which changes nothing about its status."""
        body, cut = bytearray(), None
        try:
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > self._limits.response:
                    response.close()
                    del body[65536:]
                    cut = TOO_LARGE
                    break
        except _TRANSIENT_ERRORS as error:
            cut = _describe(error)
        elapsed = time.monotonic() - started
        headers = response.headers
        return Reply(response.status, bytes(body), elapsed, headers.get("Retry-After"), headers.get("Date"), cut)


class CrewSessions(NamedTuple):
    """Clients for what is posted (fresh connections) and for looks (kept ones), so that neither waits for the other.

    `unverified`: for what is posted to other hosts than a crew's own, which must be public.
    """

    kickoffs: aiohttp.ClientSession
    polls: aiohttp.ClientSession
    unverified: aiohttp.ClientSession


@asynccontextmanager
async def crew_sessions(limits: Limits = LIMITS) -> AsyncIterator[CrewSessions]:
    """The clients that all crews share."""
    posts = aiohttp.TCPConnector(limit=0, force_close=True)
    guarded = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=guarded_sockets(allow_private=False))
    async with (
        _session(limits.kickoff, limits.connect, posts) as kickoffs,
        _session(limits.status, limits.connect, aiohttp.TCPConnector(limit=0), traced=False) as polls,
        _session(limits.kickoff, limits.connect, guarded) as unverified,
    ):
        yield CrewSessions(kickoffs, polls, unverified)


def _session(
    timeout: float, connect: float, connector: aiohttp.TCPConnector, *, traced: bool = True
) -> aiohttp.ClientSession:
    """`traced`: what is written to the socket is noted, which costs a quarter of a bare GET."""
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        request_class=LenientRequest,
        trace_configs=[_tracing()] if traced else None,
    )


def _tracing() -> aiohttp.TraceConfig:
    async def touched(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        if isinstance(context.trace_request_ctx, _Wire):
            context.trace_request_ctx.touched = True

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(touched)
    tracing.on_request_chunk_sent.append(touched)
    return tracing


def _cut_reply(status: int | None, started: float, error: Exception) -> Reply | None:
    """A response of which nothing but the status could be read, if that."""
    return None if status is None else Reply(status, b"", time.monotonic() - started, cut=_describe(error))


def _describe(error: Exception) -> str:
    """What went wrong, without addresses or headers (an aiohttp error's repr holds the token)."""
    return type(error).__name__
