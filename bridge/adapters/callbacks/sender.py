"""Send events to callback URLs: POSTs signed according to Standard Webhooks, without following redirects."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Container, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from bridge.adapters.callbacks.address_guard import ForbiddenAddress, guarded_sockets
from bridge.adapters.callbacks.signing import Signer, build_signer
from bridge.adapters.http_client import (
    DIRECT,
    LenientRequest,
    ProxyRule,
    describe_failure,
    exact_url,
    observe_next,
)
from bridge.core.callback_url import is_plain_host
from bridge.core.delivery.model import Delivery
from bridge.core.delivery.outcome import (
    MAX_EXCERPT,
    CallbackReply,
    Confirmed,
    Retryable,
    SendResult,
    Undeliverable,
    Withheld,
)
from bridge.core.http.retry_after import parse_retry_after
from bridge.ports.lifecycle import Clock

TIMEOUT = 15.0  # seconds; Standard Webhooks recommends 15 to 30
RESPONSE_TIMEOUT = 2.0  # seconds for the body, which does not affect the outcome
MAX_READ = 16 * 1024  # bytes
PROXIED = "proxied"
_FORBIDDEN = "address not permitted"

Sessions = Mapping[str, aiohttp.ClientSession]
"""URL scheme → client session; `PROXIED` → the one for calls through a proxy."""


@dataclass(frozen=True)
class SigningSecrets:
    """The secrets (`whsec_…`, `whsk_…`) that sign callbacks; each list newest first.

    Each secret of a list adds a signature, so that receivers can rotate secrets; an empty list leaves the POST
    unsigned. Those of the URL (`urls`) take precedence over those of the event's crew (`crews`), and these over
    `common`. `named`: by crew, the URLs that the settings name for its events.
    """

    common: Sequence[str] = ()
    crews: Mapping[str, Sequence[str]] = field(default_factory=dict)
    urls: Mapping[str, Sequence[str]] = field(default_factory=dict)
    named: Mapping[str, Collection[str]] = field(default_factory=dict)


class CallbackSender:
    """Posts events to callback URLs; implements `ports.Sender`.

    Behind a `proxy`, the addresses of receivers cannot be checked here. A URL that neither the settings nor the request
    name is not called.
    """

    ready = True

    def __init__(
        self,
        sessions: Sessions,
        secrets: SigningSecrets,
        version: str,
        clock: Clock,
        proxy: ProxyRule = DIRECT,
    ) -> None:
        self._sessions = sessions
        self.use(secrets, proxy)
        self._user_agent = f"kickoff-bridge/{version}"
        self._clock = clock

    def use(self, secrets: SigningSecrets, proxy: ProxyRule) -> None:
        """Make all further attempts with these secrets, to the URLs that the settings name, through this proxy."""
        self._named, self._proxy = secrets.named, proxy
        self._signers = _signers(secrets.common)
        self._crew_signers = {crew: _signers(own) for crew, own in secrets.crews.items()}
        self._url_signers = {url: _signers(own) for url, own in secrets.urls.items()}

    async def send(self, delivery: Delivery) -> SendResult:
        """Make one attempt with the stored body; only timestamp and signature are new.

        A truncated or malformed response counts by its status, if the status line arrived.
        """
        transmission = observe_next()
        result = await self._attempt(delivery)
        if isinstance(result, Retryable) and result.reply is None and transmission.status is not None:
            return _outcome(CallbackReply(transmission.status))
        return result

    async def _attempt(self, delivery: Delivery) -> SendResult:
        url, headers = delivery.destination.target, self._headers(delivery)
        if not self._is_named(delivery):
            return Withheld("the settings no longer name this URL")
        try:
            parts = urlsplit(url)
            if not is_plain_host(parts.hostname or "") or parts.scheme not in self._sessions:
                return Undeliverable(_FORBIDDEN)
            proxy = self._proxy.proxy_for(url)
            session = self._sessions[PROXIED if proxy else parts.scheme]
            async with session.post(
                exact_url(url), data=delivery.event.body, headers=headers, allow_redirects=False, proxy=proxy
            ) as response:
                after = parse_retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
                return _outcome(CallbackReply(response.status, await _body(response)), after)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ForbiddenAddress):
                return Undeliverable(_FORBIDDEN)
            return Retryable(describe_failure(error))

    def _is_named(self, delivery: Delivery) -> bool:
        """Return whether the request or the settings name the URL; yes for a crew that is not in the settings."""
        urls = self._named.get(delivery.event.crew or "")
        return delivery.requested or urls is None or delivery.destination.target in urls

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        event, now = delivery.event, int(self._clock())
        headers = {
            "Content-Type": event.content_type,
            "User-Agent": self._user_agent,
            "webhook-id": event.event_id,
            "webhook-timestamp": str(now),
        }
        of_crew = self._crew_signers.get(event.crew or "", self._signers)
        if signers := self._url_signers.get(delivery.destination.target, of_crew):
            headers["webhook-signature"] = " ".join(sign(event.event_id, now, event.body) for sign in signers)
        if "traceparent" in event.headers:
            headers["traceparent"] = str(event.headers["traceparent"])
        return headers


@asynccontextmanager
async def callback_sessions(
    *,
    allow_private: bool,
    resolver: AbstractResolver | None = None,
    own_ports: Container[int] = (),
    time_limit: float = TIMEOUT,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Sessions]:
    """Open the client sessions for callback URLs: no cookies, no connection reuse, every address checked.

    There is one session per scheme, because plain `http` is permitted to fewer addresses, and one for calls through a
    proxy: it connects to the proxy only, which has to check the addresses.

    The sessions do not limit concurrency: that happens before an attempt begins, because waiting for a connection would
    consume the attempt's time. `resolver`: by default aiohttp's, which uses aiodns, so that no thread waits for a name
    server. `own_ports`: see `guarded_sockets`. `time_limit`: seconds for a whole attempt. `tls`: the
    trusted authorities; the system's by default.
    """
    context = tls or _strict_tls()
    async with AsyncExitStack() as stack:
        sessions = dict[str, aiohttp.ClientSession]()
        for scheme in ("https", "http"):
            guard = guarded_sockets(allow_private=allow_private, own_ports=own_ports, plain=scheme == "http")
            connector = aiohttp.TCPConnector(
                limit=0, force_close=True, resolver=resolver, socket_factory=guard, ssl=context
            )
            sessions[scheme] = await stack.enter_async_context(_client(connector, time_limit))
        proxied = aiohttp.TCPConnector(limit=0, force_close=True, resolver=resolver, ssl=context)
        sessions[PROXIED] = await stack.enter_async_context(_client(proxied, time_limit))
        yield sessions


def _client(connector: aiohttp.TCPConnector, time_limit: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=time_limit),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        request_class=LenientRequest,
    )


def _strict_tls() -> ssl.SSLContext:
    """Return a context that verifies certificates and host names, regardless of the machine's OpenSSL configuration."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _signers(secrets: Sequence[str]) -> list[Signer]:
    return [build_signer(secret) for secret in secrets]


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the start of the body; an error while reading it does not change the outcome."""
    body = bytearray()
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT):
            while len(body) < MAX_READ and (chunk := await response.content.read(MAX_READ - len(body))):
                body += chunk
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    return bytes(body[:MAX_EXCERPT])


def _outcome(reply: CallbackReply, after: float | None = None) -> SendResult:
    if 200 <= reply.code < 300:
        return Confirmed(reply)
    if reply.code == 410:
        return Undeliverable("HTTP 410: the receiver is gone", reply)
    return Retryable(f"HTTP {reply.code}", after, reply)
