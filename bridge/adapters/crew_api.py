"""The crew API over HTTP; every outcome becomes a value of `core.crew.responses`.

A kickoff costs money and has no idempotency key, so its outcome depends on what was written to the socket: before the
first byte nothing can have been started, after it an execution may exist.

A POST over a kept connection that the server closes at the same moment looks like an execution in doubt. So it uses a
connection that was kept for at most `Limits.keep` seconds, on which nothing has arrived since the last response;
otherwise a new one. After a server has closed such a connection unannounced, its POSTs use new ones for a while.
"""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import aiohttp

from bridge.adapters.byte_budget import MIB, ByteBudget, Hold
from bridge.adapters.callbacks.address_guard import ForbiddenAddress, guarded_sockets
from bridge.adapters.http_client import (
    DIRECT,
    UNTRUSTED,
    ConnectionUnusable,
    LenientRequest,
    ProxyRule,
    Transmission,
    describe_failure,
    exact_url,
    observe_next,
)
from bridge.core.crew import responses
from bridge.core.crew.flow_questions import read_answer_reply, same_host
from bridge.core.crew.inputs import ListedInputs, read_inputs
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
    StopResponse,
)
from bridge.core.http.retry_after import parse_retry_after
from bridge.core.json import compact
from bridge.core.redaction import Redactor
from bridge.ports.lifecycle import Clock, Health

SOURCE = "kickoff-bridge"  # the `source` of human input sent to a flow
UNUSABLE_ID = "accepted, but the kickoff_id contains a secret of the bridge and cannot be used"

_TRANSIENT_ERRORS = (
    aiohttp.ClientError,
    OSError,
    TimeoutError,
    ValueError,  # an invalid host name
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts in seconds, and the largest response that is read, in bytes.

    `kickoff`: the slowest successful response observed, with a margin. `inputs` is short, because a client waits for
    the result. `fast_refusal`: a 503 faster than this is certain not to have started an execution. `keep`: how long a
    connection may have been idle when a POST uses it; far less than any server waits before it closes one.
    """

    kickoff: float = 60.0
    status: float = 30.0
    inputs: float = 5.0
    connect: float = 10.0
    fast_refusal: float = responses.FAST_REFUSAL
    keep: float = 1.0
    response: int = 32 * MIB


LIMITS = Limits()
NEW_CONNECTIONS_FOR = 600.0  # seconds of POSTs over new connections after a kept one was closed early
BEGINNING = 64 * 1024  # bytes that are kept of a response that is too large
LARGE = MIB  # bytes from which a response is counted
LARGE_BYTES = 80 * MIB  # of large responses that are read or stored at once, half of them for one crew

CountResponse = Callable[[str, object], None]
"""Counts a response to a kickoff, a poll, or human input: the operation, and the value that came of it."""

ObserveCall = Callable[[str, float], None]
"""Observes how many seconds a call took: the operation (also `stop` and `inputs`), and the seconds."""

T = TypeVar("T")


class HttpCrewApi:
    """The API of one deployed crew. Calls take permits from `rate_limiter` and report every response to it.

    `tls`: for calls to the crew's own host; None: the authorities of the system, no client certificate.
    """

    def __init__(
        self,
        url: str,
        token: str,
        rate_limiter: RateLimiter,
        sessions: "CrewSessions",
        clock: Clock,
        limits: Limits = LIMITS,
        redactor: Redactor | None = None,
        count: CountResponse = lambda _operation, _response: None,
        proxy: ProxyRule = DIRECT,
        tls: ssl.SSLContext | None = None,
        observe: ObserveCall = lambda _operation, _seconds: None,
    ) -> None:
        self._count = count
        self._observe = observe
        self._redactor = redactor or Redactor()
        self.use(url, token, limits, proxy, tls)
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._queue = asyncio.Lock()
        self._sessions = sessions
        self._closed_early_at = -math.inf

    def use(self, url: str, token: str, limits: Limits, proxy: ProxyRule, tls: ssl.SSLContext | None) -> None:
        """Make all further calls with these settings."""
        self._url, self._limits, self._proxy, self._tls = url.rstrip("/"), limits, proxy, tls
        self._headers = {"Authorization": f"Bearer {token}"}

    async def acquire(self) -> None:
        """Wait for a permit of the rate limiter; first come, first served, and before all polls."""
        self._rate_limiter.waiting += 1
        try:
            async with self._queue:
                while (wait := self._rate_limiter.acquire(self._clock())) > 0.0:  # noqa: ASYNC110 - the wait is known only now
                    await asyncio.sleep(wait)
        finally:
            self._rate_limiter.waiting -= 1

    def _contains_secret(self, kickoff_id: str) -> bool:
        """Return whether an id contains a known secret; it would be stored, published and logged with the run."""
        return self._redactor.text(kickoff_id) != kickoff_id

    async def kickoff(self, body: dict[str, Any], traceparent: str | None = None) -> KickoffResponse:
        """Call `POST /kickoff` once, without following redirects. Must not be cancelled."""
        headers = self._headers if traceparent is None else self._headers | {"traceparent": traceparent}
        reply = await self._timed("kickoff", self._post(self._posts, f"{self._url}/kickoff", body, headers))
        response = self._read_kickoff(reply) if isinstance(reply, Reply) else reply
        self._count("kickoff", response)
        return response

    def _read_kickoff(self, reply: Reply) -> KickoffResponse:
        match responses.read_kickoff(reply, self._limits.fast_refusal):
            case Started(kickoff_id) as started:
                return InDoubt(UNUSABLE_ID) if self._contains_secret(kickoff_id) else started
            case other:
                return self._redactor.fields(other)

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        """Call `POST /resume`, with the same guarantees as `kickoff`."""
        post = self._post(self._posts, f"{self._url}/resume", body, self._headers)
        reply = await self._timed("human_input", post)
        response = self._read_resume(reply) if isinstance(reply, Reply) else reply
        self._count("human_input", response)
        return response

    def _read_resume(self, reply: Reply) -> ResumeResponse:
        match responses.read_resume(reply):
            case Resumed(alias) if alias is None or self._contains_secret(alias):
                return Resumed()
            case Resumed() as resumed:
                return resumed
            case other:
                return self._redactor.fields(other)

    async def answer_flow(self, callback_url: str, feedback: str) -> ResumeResponse:
        """POST human input to a flow's callback URL, without the crew's token: the URL itself grants the permission.

        A private address is permitted only on the crew's own host; behind a proxy, the proxy has to check this.
        """
        unguarded = same_host(callback_url, self._url) or self._proxy.proxy_for(callback_url) is not None
        session = self._posts if unguarded else self._sessions.external
        post = self._post(session, callback_url, {"feedback": feedback, "source": SOURCE}, {})
        reply = await self._timed("human_input", post)
        response = self._redactor.fields(read_answer_reply(reply)) if isinstance(reply, Reply) else reply
        self._count("human_input", response)
        return response

    async def status(self, kickoff_id: str) -> StatusResponse:
        """Call `GET /status/{kickoff_id}`."""
        assert responses.usable_kickoff_id(kickoff_id)  # it becomes part of a path
        sent_at = self._clock()
        reply = await self._timed("poll", self._request("GET", f"/status/{quote(kickoff_id, safe='')}"))
        self._update_rate_limiter(reply, sent_at)
        response = self._redactor.fields(responses.read_status(reply)) if isinstance(reply, Reply) else reply
        self._count("poll", response)
        return response

    async def stop(self, kickoff_id: str) -> StopResponse:
        """Call `POST /stop/{kickoff_id}`, which only some deployments support; return what came of it."""
        assert responses.usable_kickoff_id(kickoff_id)
        sent_at = self._clock()
        reply = await self._timed("stop", self._request("POST", f"/stop/{quote(kickoff_id, safe='')}"))
        self._update_rate_limiter(reply, sent_at)
        return responses.read_stop(reply) if isinstance(reply, Reply) else StopResponse.NOT_STOPPED

    async def probe(self) -> Health:
        """Return whether `GET /inputs` succeeds with this token; the root path returns 404 even for a healthy crew."""
        match await self._timed("inputs", self._request("GET", "/inputs", self._limits.inputs)):
            case Reply(code):
                return Health(ok=code == 200, detail=f"GET /inputs: HTTP {code}")
            case NoResponse(why):
                remedy = "; name the authority that signed it in tls.ca_file" if why == UNTRUSTED else ""
                return Health(ok=False, detail=f"GET /inputs: {why}{remedy}")

    async def inputs(self) -> ListedInputs | None:
        """Return what `GET /inputs` lists; None if it fails."""
        reply = await self._timed("inputs", self._request("GET", "/inputs", self._limits.inputs))
        return read_inputs(reply) if isinstance(reply, Reply) else None

    async def _timed(self, operation: str, call: Awaitable[T]) -> T:
        started = time.monotonic()
        result = await call
        self._observe(operation, time.monotonic() - started)
        return result

    async def _request(self, method: str, path: str, seconds: float | None = None) -> Reply | NoResponse:
        """Make one call that starts no execution. `seconds`: its timeout, by default that of a poll."""
        started = time.monotonic()
        timeout = self._sessions.polls.timeout if seconds is None else aiohttp.ClientTimeout(total=seconds)
        transmission = observe_next()
        try:
            request = self._sessions.polls.request(
                method,
                exact_url(self._url + path),
                headers=self._headers,
                allow_redirects=False,
                timeout=timeout,
                proxy=self._proxy.proxy_for(self._url),
                ssl=self._tls_for(self._url),
            )
            async with request as response:
                return await self._read(response, started)
        except _TRANSIENT_ERRORS as error:
            return _truncated_reply(transmission.status, started, error) or NoResponse(describe_failure(error))

    async def _post(
        self, session: aiohttp.ClientSession, url: str, body: dict[str, Any], headers: dict[str, str]
    ) -> Reply | NotStarted | InDoubt | Refused:
        """Make one POST: return its reply, or whether it may have reached the server."""
        while True:
            started, sent_at = time.monotonic(), self._clock()
            transmission = observe_next(self._on_early_close)
            try:
                request = session.post(
                    exact_url(url),
                    data=compact(body),
                    headers=headers | {"Content-Type": "application/json"},
                    allow_redirects=False,
                    proxy=self._proxy.proxy_for(url),
                    ssl=self._tls_for(url),
                )
                async with request as response:
                    reply = await self._read(response, started)
            except ConnectionUnusable:
                continue  # with the next kept connection, in the end with a new one
            except _TRANSIENT_ERRORS as error:
                truncated = _truncated_reply(transmission.status, started, error)
                if truncated is None:
                    return self._unanswered_post(error, transmission, sent_at)
                reply = truncated
            self._update_rate_limiter(reply, sent_at, posted=True)
            return reply

    @property
    def _posts(self) -> aiohttp.ClientSession:
        """The session for POSTs to the crew's own host."""
        early = time.monotonic() < self._closed_early_at + NEW_CONNECTIONS_FOR
        return self._sessions.new_connections if early else self._sessions.kickoffs

    def _on_early_close(self) -> None:
        self._closed_early_at = time.monotonic()

    def _tls_for(self, url: str) -> ssl.SSLContext | bool:
        """Return the crew's TLS for its own host; True, the library's default, for others."""
        return self._tls if self._tls is not None and same_host(url, self._url) else True

    def _unanswered_post(
        self, error: Exception, transmission: Transmission, sent_at: float
    ) -> NotStarted | InDoubt | Refused:
        """Classify a POST for which not even a status line arrived."""
        if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddress):
            self._rate_limiter.on_no_response(sent_at, self._clock(), counts=False)
            return Refused("address not permitted")
        if transmission.kept:
            self._on_early_close()
        self._rate_limiter.on_no_response(sent_at, self._clock(), counts=not transmission.started)
        return InDoubt(describe_failure(error)) if transmission.started else NotStarted(describe_failure(error))

    def _update_rate_limiter(self, reply: Reply | NoResponse, sent_at: float, *, posted: bool = False) -> None:
        """Report the outcome of a call to the rate limiter: 429 and 503 slow it down, other responses speed it up."""
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
        """Read the response; `cut` says why its body is incomplete, which does not affect its status.

        A large one first waits for room, and counts until the task has stored what it means.
        """
        body, cut, hold = bytearray(), None, None
        try:
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > self._limits.response:
                    response.close()
                    del body[BEGINNING:]
                    cut = TOO_LARGE
                    break
                if hold is None and len(body) > LARGE:
                    hold = await self._reserve(response.content_length or self._limits.response)
        except _TRANSIENT_ERRORS as error:
            cut = describe_failure(error)
        elapsed = time.monotonic() - started
        headers = response.headers
        return Reply(response.status, bytes(body), elapsed, headers.get("Retry-After"), headers.get("Date"), cut)

    async def _reserve(self, size: int) -> Hold:
        """Wait for room for a large response, and hold it until the current task is done."""
        size = min(size, self._limits.response)
        await self._sessions.large.wait_for_room(self._url, size)
        hold = self._sessions.large.hold(self._url)
        hold.grow(size)
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: hold.release())
        return hold


class CrewSessions(NamedTuple):
    """Client sessions for POSTs and polls, with separate connections, so that neither waits for the other.

    `new_connections`: for POSTs to hosts that close kept connections early. `external`: for POSTs to hosts other than
    the crew's own, which must have public addresses. `large`: the memory of large responses.
    """

    kickoffs: aiohttp.ClientSession
    new_connections: aiohttp.ClientSession
    polls: aiohttp.ClientSession
    external: aiohttp.ClientSession
    large: ByteBudget


@asynccontextmanager
async def crew_sessions(limits: Limits = LIMITS) -> AsyncIterator[CrewSessions]:
    """Open the client sessions that all crews share."""
    kept = aiohttp.TCPConnector(limit=0, keepalive_timeout=limits.keep)
    new = aiohttp.TCPConnector(limit=0, force_close=True)
    guarded = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=guarded_sockets(allow_private=False))
    async with (
        _session(limits.kickoff, limits.connect, kept) as kickoffs,
        _session(limits.kickoff, limits.connect, new) as new_connections,
        _session(limits.status, limits.connect, aiohttp.TCPConnector(limit=0)) as polls,
        _session(limits.kickoff, limits.connect, guarded) as external,
    ):
        yield CrewSessions(kickoffs, new_connections, polls, external, ByteBudget(LARGE_BYTES, share=0.5))


def _session(timeout: float, connect: float, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=connect),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        request_class=LenientRequest,
    )


def _truncated_reply(status: int | None, started: float, error: Exception) -> Reply | None:
    """Return a reply with only the captured status; None if no status line arrived."""
    return None if status is None else Reply(status, b"", time.monotonic() - started, cut=describe_failure(error))
