"""Events to callback URLs: signed POSTs by Standard Webhooks, never following a redirect."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from bridge.adapters.callbacks.address_guard import ForbiddenAddress, guarded_sockets
from bridge.adapters.callbacks.signing import signer
from bridge.adapters.http_client import LenientRequest, seen_status
from bridge.core.callback_url import is_plain_host
from bridge.core.delivery.model import Delivery
from bridge.core.delivery.outcome import MAX_EXCERPT, CallbackReply, Confirmed, Retryable, SendResult, Undeliverable
from bridge.core.http.retry_after import parse_retry_after
from bridge.ports.lifecycle import Clock

TIMEOUT = 15.0  # seconds; Standard Webhooks recommends 15 to 30
RESPONSE_TIMEOUT = 2.0  # seconds for the body, which decides nothing
MAX_READ = 16 * 1024  # bytes
_FORBIDDEN = "the address may not be called"


Sessions = Mapping[str, aiohttp.ClientSession]
"""A client for each scheme of URLs."""


class CallbackSender:
    """Posts events to the URL that a request or a crew named; `ports.Sender`.

    `secrets`: signing secrets (`whsec_…`, `whsk_…`), newest first; every one signs, so that receivers can change over.
    Without any the POST is unsigned. Events of a crew in `crew_secrets` are signed with its own instead.
    """

    ready = True

    def __init__(
        self,
        sessions: Sessions,
        secrets: Sequence[str],
        version: str,
        clock: Clock,
        crew_secrets: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._sessions = sessions
        self.sign_with(secrets, crew_secrets or {})
        self._user_agent = f"kickoff-bridge/{version}"
        self._clock = clock

    def sign_with(self, secrets: Sequence[str], crew_secrets: Mapping[str, Sequence[str]]) -> None:
        """Use these from now on."""
        self._signers = [signer(secret) for secret in secrets]
        self._crew_signers = {crew: [signer(one) for one in own] for crew, own in crew_secrets.items()}

    async def send(self, delivery: Delivery) -> SendResult:
        """One attempt; the body is the stored one, only timestamp and signature are new.

        A response that breaks off or breaks the protocol is judged by its status, if that arrived.
        """
        with seen_status() as seen:
            answer = await self._attempt(delivery)
        if isinstance(answer, Retryable) and answer.reply is None and seen.code is not None:
            return _judged(CallbackReply(seen.code))
        return answer

    async def _attempt(self, delivery: Delivery) -> SendResult:
        url, headers = delivery.destination.target, self._headers(delivery)
        try:
            parts = urlsplit(url)
            if not is_plain_host(parts.hostname or "") or parts.scheme not in self._sessions:
                return Undeliverable(_FORBIDDEN)
            async with self._sessions[parts.scheme].post(
                url, data=delivery.event.body, headers=headers, allow_redirects=False
            ) as response:
                after = parse_retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
                return _judged(CallbackReply(response.status, await _body(response)), after)
        except aiohttp.ClientSSLError:
            return Retryable("no TLS connection")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ForbiddenAddress):
                return Undeliverable(_FORBIDDEN)
            return Retryable("no connection")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return Retryable(type(error).__name__)

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        event, now = delivery.event, int(self._clock())
        headers = {
            "Content-Type": event.content_type,
            "User-Agent": self._user_agent,
            "webhook-id": event.event_id,
            "webhook-timestamp": str(now),
        }
        if signers := self._crew_signers.get(event.crew or "", self._signers):
            headers["webhook-signature"] = " ".join(sign(event.event_id, now, event.body) for sign in signers)
        if "traceparent" in event.headers:
            headers["traceparent"] = str(event.headers["traceparent"])
        return headers


@asynccontextmanager
async def callback_sessions(
    *,
    allow_private: bool,
    resolver: AbstractResolver,
    own_ports: Container[int] = (),
    time_limit: float = TIMEOUT,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Sessions]:
    """Clients of their own for strangers' URLs: no proxy, no cookies, no kept connections, every address checked.

    One for each scheme, because what is not encrypted may go to fewer addresses; only the connection knows them.

    Without limits of its own: how many calls there are at once is decided before an attempt begins, because waiting
    for a place would use up the attempt's time. `own_ports`: see `guarded_sockets`. `time_limit` in seconds, for a
    whole attempt. `tls`: whom to trust; the system's authorities by default.
    """
    webhook_reliability = tls or _strict_tls()
    async with AsyncExitStack() as stack:
        sessions = dict[str, aiohttp.ClientSession]()
        for scheme in ("https", "http"):
            guard = guarded_sockets(allow_private=allow_private, own_ports=own_ports, plain=scheme == "http")
            connector = aiohttp.TCPConnector(
                limit=0, force_close=True, resolver=resolver, socket_factory=guard, ssl=webhook_reliability
            )
            sessions[scheme] = await stack.enter_async_context(_client(connector, time_limit))
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
    """Certificates and host names are checked, whatever the machine's own configuration of OpenSSL allows."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The start of the body; whatever goes wrong with it changes nothing about the status that came before."""
    got = bytearray()
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT):
            while len(got) < MAX_READ and (part := await response.content.read(MAX_READ - len(got))):
                got += part
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    return bytes(got[:MAX_EXCERPT])


def _judged(reply: CallbackReply, after: float | None = None) -> SendResult:
    if 200 <= reply.code < 300:
        return Confirmed(reply)
    if reply.code == 410:
        return Undeliverable("HTTP 410: the receiver wants no more", reply)
    return Retryable(f"HTTP {reply.code}", after, reply)
