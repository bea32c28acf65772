"""Callbacks over real HTTP: signed with Standard Webhooks, without redirects, never to a forbidden address."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from bridge.adapters.callbacks import sender as callback_sender
from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.core.callback_url import CallbackRules, check
from bridge.core.delivery.model import Channel, Delivery, Destination, Event
from bridge.core.delivery.outcome import CallbackReply, Confirmed, Retryable, SendResult, Undeliverable, Withheld
from tests.fakes import HandClock
from tests.tcp_server import tcp_server

# The vector in the test suites of all Standard Webhooks libraries.
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
NEW = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


@dataclass
class Receiver:
    """Records requests and responds as configured."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    may_respond: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def respond(self, request: web.Request) -> web.Response:
        await self.may_respond.wait()
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def listening() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    receiver.may_respond.set()
    app = web.Application()
    app.router.add_route("*", "/{anywhere:.*}", receiver.respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/done?order=17"
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with listening() as one:
        yield one


Make = Callable[..., Awaitable[CallbackSender]]


@pytest.fixture
async def sender() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def make(
            *secrets: str,
            allow_private: bool = True,
            clock: HandClock | None = None,
            secrets_of: SigningSecrets | None = None,
            **options: Any,
        ) -> CallbackSender:
            session = await stack.enter_async_context(callback_sessions(allow_private=allow_private, **options))
            signing = secrets_of or SigningSecrets(secrets)
            return CallbackSender(session, signing, "1.2.3", clock or HandClock(VECTOR_TIME + 0.9))

        yield make


def delivery(url: str, **changes: Any) -> Delivery:
    event = Event(VECTOR_ID, "run.succeeded", VECTOR_BODY, "application/cloudevents+json", VECTOR_TIME)
    return Delivery(f"{VECTOR_ID}-1", replace(event, **changes), Destination(Channel.CALLBACK, url))


async def test_the_official_vector_has_the_official_signature(sender: Make, receiver: Receiver):
    assert await (await sender(VECTOR_SECRET)).send(delivery(receiver.url)) == Confirmed()
    [(headers, body)] = receiver.got
    assert body == VECTOR_BODY
    assert headers["webhook-id"] == VECTOR_ID
    assert headers["webhook-timestamp"] == str(VECTOR_TIME)
    assert headers["webhook-signature"] == VECTOR_SIGNATURE
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["user-agent"] == "kickoff-bridge/1.2.3"


PAGE = (Path(__file__).parents[3] / "docs" / "callbacks.md").read_text("utf-8")
ORIGIN = "https://shop.example.com"
AWKWARD_URLS = [
    (url.replace("\\|", "|"), target.replace("\\|", "|"))
    for url, target in re.findall(rf"^\| `+({ORIGIN}.*?)`+ \| `+(.*?)`+ \|$", PAGE, re.MULTILINE)
]
"""The table of docs/callbacks.md: URLs, and the targets of their requests."""


@asynccontextmanager
async def recording_targets() -> AsyncIterator[tuple[str, list[str]]]:
    """A server without a library: the origin, and the target of every request as received."""
    targets: list[str] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            targets.append(head.split(b" ")[1].decode("ascii"))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with tcp_server(respond) as port:
        yield f"http://127.0.0.1:{port}", targets


async def test_a_callback_url_is_sent_byte_for_byte(sender: Make):
    assert len(AWKWARD_URLS) > 20
    async with recording_targets() as (origin, targets):
        posting = await sender()
        for url, _ in AWKWARD_URLS:
            check(url, CallbackRules())
            assert await posting.send(delivery(url.replace(ORIGIN, origin))) == Confirmed()
        assert targets == [target for _, target in AWKWARD_URLS]


async def test_during_a_rotation_both_secrets_sign_newest_first(
    sender: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    await (await sender(NEW, OLD)).send(delivery(receiver.url, body='{"größe":"🦉"}'.encode()))
    [(headers, body)] = receiver.got
    signatures = headers["webhook-signature"].split(" ")
    assert len(set(signatures)) == 2
    monkeypatch.setattr(Webhook, "_Webhook__verify_timestamp", lambda _, header: from_header(header))
    for secret, signature in zip((NEW, OLD), signatures, strict=True):
        alone = headers | {"webhook-signature": signature}
        assert Webhook(secret).verify(body, alone) == {"größe": "🦉"}
        assert Webhook(secret).verify(body, headers) == {"größe": "🦉"}


def from_header(header: str) -> Any:
    """The library compares with the real clock; the vector is from 2021."""
    return datetime.fromtimestamp(float(header), UTC)


async def test_a_key_pair_signs_beside_a_shared_secret(sender: Make, receiver: Receiver):
    """The vector: the seed 00 to 1f, and the shared secret of the same bytes."""
    pair = "whsk_" + NEW.removeprefix("whsec_")
    body = (
        b'{"specversion":"1.0","id":"evt_01","source":"urn:example:bridge",'
        b'"type":"com.example.crew.execution.completed","data":{"kickoff_id":"abcd1234"}}'
    )
    posting = await sender(pair, NEW, clock=HandClock(1_700_000_000))
    await posting.send(delivery(receiver.url, event_id="evt_01", body=body))
    assert receiver.got[0][0]["webhook-signature"].split(" ") == [
        "v1a,Ex8SZ+84begsTWSYAbjf8TnIgLC68MZg5svFayZuKrkvcT3lg8R3c67vyQtwdkstr8pS6f2stIZc4szrvAQBBQ==",
        "v1,I0wYlrnpZHp6FYRPEtuUfydN9An9Ect6WXJHii1cv7o=",
    ]


def signature_by(secret: str) -> str:
    return Webhook(secret).sign(VECTOR_ID, datetime.fromtimestamp(VECTOR_TIME, UTC), VECTOR_BODY.decode())


@pytest.mark.parametrize(("crew", "secret"), [("research", OLD), ("triage", VECTOR_SECRET), (None, VECTOR_SECRET)])
async def test_a_crew_may_have_secrets_of_its_own(sender: Make, receiver: Receiver, crew: str | None, secret: str):
    posting = await sender(secrets_of=SigningSecrets([VECTOR_SECRET], {"research": [OLD]}))
    await posting.send(delivery(receiver.url, crew=crew))
    assert receiver.got[0][0]["webhook-signature"] == signature_by(secret)


async def test_secrets_of_a_url_take_precedence_over_those_of_a_crew(sender: Make, receiver: Receiver):
    secrets = SigningSecrets([VECTOR_SECRET], {"research": [OLD]}, {receiver.url: [NEW, VECTOR_SECRET]})
    posting = await sender(secrets_of=secrets)
    await posting.send(delivery(receiver.url, crew="research"))
    await posting.send(delivery(receiver.url + "&other", crew="research"))
    assert [headers["webhook-signature"] for headers, _ in receiver.got] == [
        f"{signature_by(NEW)} {signature_by(VECTOR_SECRET)}",
        signature_by(OLD),
    ]


@pytest.mark.parametrize(
    ("requested", "crew", "named", "sent"),
    [
        (False, "research", True, True),
        (False, "research", False, False),
        (True, "research", False, True),
        (False, "elsewhere", False, True),  # in the settings of another bridge
    ],
)
async def test_a_url_that_nothing_names_any_more_is_not_called(
    receiver: Receiver, requested: bool, crew: str, named: bool, sent: bool
):
    secrets = SigningSecrets(named={"research": {receiver.url} if named else set[str]()})
    async with callback_sessions(allow_private=True) as sessions:
        posting = CallbackSender(sessions, secrets, "1.2.3", HandClock(0.0))
        result = await posting.send(replace(delivery(receiver.url, crew=crew), requested=requested))
    assert result == (Confirmed() if sent else Withheld("the settings no longer name this URL"))
    assert len(receiver.got) == sent


async def test_without_a_secret_nothing_is_signed(sender: Make, receiver: Receiver):
    await (await sender()).send(delivery(receiver.url))
    assert "webhook-signature" not in receiver.got[0][0]
    assert receiver.got[0][0]["webhook-id"] == VECTOR_ID


async def test_a_retry_has_the_same_id_and_bytes_and_a_new_time_and_signature(sender: Make, receiver: Receiver):
    clock = HandClock(VECTOR_TIME)
    posting = await sender(VECTOR_SECRET, clock=clock)
    receiver.status = 500
    assert await posting.send(delivery(receiver.url)) == Retryable("HTTP 500")
    clock.forward(300)
    receiver.status = 200
    assert await posting.send(delivery(receiver.url)) == Confirmed()
    (first, one), (second, two) = receiver.got
    assert (one, first["webhook-id"]) == (two, second["webhook-id"])
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 300
    assert first["webhook-signature"] != second["webhook-signature"]


async def test_the_trace_context_is_sent(sender: Make, receiver: Receiver):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await (await sender()).send(delivery(receiver.url, headers={"traceparent": trace, "run_id": "r"}))
    assert receiver.got[0][0]["traceparent"] == trace
    assert "run_id" not in receiver.got[0][0]


@pytest.mark.parametrize(
    ("status", "headers", "respond"),
    [
        (200, {}, Confirmed()),
        (202, {}, Confirmed()),
        (299, {}, Confirmed()),
        (410, {}, Undeliverable("HTTP 410: the receiver is gone")),
        (400, {}, Retryable("HTTP 400")),
        (401, {}, Retryable("HTTP 401")),
        (404, {}, Retryable("HTTP 404")),
        (429, {"Retry-After": "120"}, Retryable("HTTP 429", 120.0)),
        (503, {"Retry-After": "999999999"}, Retryable("HTTP 503", 86_400.0)),
        (503, {"Retry-After": "whenever"}, Retryable("HTTP 503", None)),
        (
            503,
            {"Retry-After": "Tue, 24 Nov 2026 08:00:30 GMT", "Date": "Tue, 24 Nov 2026 08:00:00 GMT"},
            Retryable("HTTP 503", 30.0),
        ),
        (500, {}, Retryable("HTTP 500")),
    ],
)
async def test_outcomes_by_response(
    sender: Make, receiver: Receiver, status: int, headers: dict[str, str], respond: SendResult
):
    receiver.status, receiver.headers = status, headers
    assert await (await sender(NEW)).send(delivery(receiver.url)) == respond


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(sender: Make, receiver: Receiver, status: int):
    async with listening() as elsewhere:
        receiver.status, receiver.headers = status, {"Location": elsewhere.url}
        assert await (await sender(NEW)).send(delivery(receiver.url)) == Retryable(f"HTTP {status}")
        assert elsewhere.got == []


async def test_a_long_response_is_not_read_to_its_end(sender: Make, receiver: Receiver):
    receiver.status, receiver.body = 200, b"x" * 4_000_000
    assert await (await sender(NEW)).send(delivery(receiver.url)) == Confirmed()


async def test_an_unreachable_receiver_is_retried(sender: Make):
    async with listening() as gone:
        url = gone.url
    assert await (await sender(NEW)).send(delivery(url)) == Retryable("connection failed")


async def test_a_receiver_that_does_not_respond_is_retried(sender: Make, receiver: Receiver):
    receiver.may_respond.clear()
    respond = await (await sender(NEW, time_limit=0.05)).send(delivery(receiver.url))
    assert respond == Retryable("timed out")
    assert respond.reply is None


async def test_the_start_of_a_response_is_kept(sender: Make, receiver: Receiver):
    receiver.status, receiver.body = 500, b"out of order " * 1000
    respond = await (await sender(NEW)).send(delivery(receiver.url))
    assert respond.reply == CallbackReply(500, receiver.body[:1024])


async def test_an_accepted_event_is_delivered_even_if_the_response_never_ends(
    sender: Make, monkeypatch: pytest.MonkeyPatch
):
    """A receiver that sent its 2xx has the event; waiting for the rest would count it as a failure."""
    monkeypatch.setattr(callback_sender, "RESPONSE_TIMEOUT", 0.05)

    async def human_input(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"}")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nthank")
            await reader.read()

    async with tcp_server(human_input) as port:
        respond = await (await sender(NEW)).send(delivery(f"http://127.0.0.1:{port}/"))
    assert respond == Confirmed()
    assert respond.reply == CallbackReply(200, b"thank")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_a_private_address_is_refused_in_every_spelling(sender: Make, receiver: Receiver, host: str):
    url = receiver.url.replace("127.0.0.1", host)
    posting = await sender(NEW, allow_private=False)
    assert await posting.send(delivery(url)) == Undeliverable("address not permitted")
    assert receiver.got == []


@pytest.mark.parametrize("allow_private", [True, False])
@pytest.mark.parametrize(
    "host", ["169.254.169.254", "168.63.129.16", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]"]
)
async def test_metadata_services_are_refused(sender: Make, host: str, allow_private: bool):
    posting = await sender(NEW, allow_private=allow_private)
    respond = await posting.send(delivery(f"http://{host}/latest/meta-data/"))
    assert respond == Undeliverable("address not permitted")


@pytest.mark.parametrize("url", ["http://[::1", "http:///x", "not a url", "http://a b/", "gopher://a.example/"])
async def test_an_invalid_url_is_undeliverable(sender: Make, url: str):
    assert isinstance(await (await sender(NEW)).send(delivery(url)), Retryable | Undeliverable)


async def test_neither_cookies_nor_connections_are_kept(sender: Make, receiver: Receiver):
    receiver.headers = {"Set-Cookie": "a=b"}
    posting = await sender(NEW)
    for _ in range(2):
        await posting.send(delivery(receiver.url))
    assert "cookie" not in receiver.got[1][0]
    assert receiver.got[1][0].get("connection", "").lower() == "close"


async def test_the_sender_is_always_ready(sender: Make):
    assert (await sender()).ready
