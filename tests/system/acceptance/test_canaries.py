"""A canary in every secret setting, one end-to-end use of a bridge, and no trace of a canary outside.

The test searches everything that is logged (at debug level), stored, counted, published, called back, and returned over
HTTP, in plain text and in the encodings of JSON, URLs, and base64.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import aio_pika
import aiohttp
from aiohttp import web

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.broker import Broker
from tests.system.acceptance.harness import Daemon, channel, drain, eventually, free_port

CREW = "canary-crew-token-5e1f0a77"
CLIENT = "canary-client-token-9c2d4b88"
BROKER_USER = "canary"
BROKER = "canary-broker-password-3a7c"
HOOK = "canary-hook-secret-6f2e1d99"
SIGNING = "whsec_" + base64.b64encode(b"canary-signing-secret-0123456789").decode()
QUERY = "canary-callback-query-8b1a"
SECRETS = {CREW, CLIENT, BROKER, HOOK, SIGNING, SIGNING.removeprefix("whsec_"), QUERY}


def forms(secret: str) -> set[bytes]:
    """The encodings in which a secret could occur."""
    raw = secret.encode()
    return {raw, quote(secret, safe="").encode(), base64.b64encode(raw).rstrip(b"="), raw.hex().encode()}


def found_in(text: bytes, secrets: set[str] = SECRETS) -> set[str]:
    return {secret for secret in secrets for form in forms(secret) if form in text}


def test_a_canary_would_be_found() -> None:
    assert found_in(f"x{CREW}x".encode()) == {CREW}
    assert found_in(base64.b64encode(CLIENT.encode())) == {CLIENT}


async def test_no_secret_leaves_the_bridge(tmp_path: Path, node: Broker, amqp: str) -> None:
    vhost = amqp.rpartition("/")[2]
    node.ctl("add_user", BROKER_USER, BROKER)
    node.ctl("set_permissions", "-p", vhost, BROKER_USER, ".*", ".*", ".*")
    called: list[bytes] = []
    sandbox = SandboxSettings(run_time=parse_run_time("fixed:0.2"), inputs=("n",), token=CREW)
    async with running(sandbox) as crew_url, _receiver(called) as receiver:
        daemon = Daemon(tmp_path, crew_url)
        daemon.change(
            http={"port": daemon.port, "clients": [{"name": "orders", "token": CLIENT, "roles": ["operate"]}]},
            amqp={"url": node.url_for(BROKER_USER, BROKER, vhost)},
            callbacks={"secret": SIGNING, "allow_private": True},
            hooks={
                "shop": {"crew": "research", "verify": {"scheme": "github", "secret": HOOK}, "inputs": {"n": "body.n"}}
            },
            crews={
                "research": {
                    "url": crew_url,
                    "token": CREW,
                    "poll": {"min_interval": "300ms", "max_interval": "300ms"},
                    "callback_url": f"{receiver}/in?token={QUERY}",
                }
            },
            log={"level": "debug"},
        )
        try:
            await daemon.start()
            seen = await _use_everything(daemon, node, amqp, called)
        finally:
            await daemon.close()
    seen |= await asyncio.to_thread(_files, tmp_path)
    seen["callbacks"] = b"".join(called)
    assert {name for name, text in seen.items() if not text} == set(), "nothing to search"
    # The crew's callback URL is stored as the delivery target; the store cannot do without its query.
    allowed = {"store": {QUERY}}
    found = {name: found_in(text) - allowed.get(name, set()) for name, text in seen.items()}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}


def _files(folder: Path) -> dict[str, bytes]:
    stored = b"".join(path.read_bytes() for path in folder.glob("bridge.db*"))
    return {"log": (folder / "bridge.log").read_bytes(), "store": stored}


async def _use_everything(daemon: Daemon, node: Broker, amqp: str, called: list[bytes]) -> dict[str, bytes]:
    """A run over HTTP, one over RabbitMQ, refusals of each kind, a closed broker connection.

    Return what was received.
    """
    responses = []
    async with aiohttp.ClientSession() as http, channel(amqp) as ch:
        for path, token, body in (
            ("/v1/runs", CLIENT, {"crew": "research", "inputs": {"n": "1"}}),
            ("/v1/runs", CLIENT, {"crew": "nobody"}),
            ("/v1/runs", CLIENT + "x", {"crew": "research"}),
            ("/v1/runs", CREW, {"crew": "research"}),
            ("/hooks/shop", HOOK, {"n": "1"}),
        ):
            headers = {"Authorization": f"Bearer {token}", "X-Hub-Signature-256": "sha256=00"}
            async with http.post(daemon.url + path, json=body, headers=headers) as response:
                responses.append(f"{response.status} {dict(response.headers)}".encode() + await response.read())
        await ch.default_exchange.publish(
            aio_pika.Message(b'{"inputs": {"n": "2"}}', message_id="m"), "kickoff.requests"
        )
        await (await ch.get_exchange("kickoff.requests")).publish(
            aio_pika.Message(b'{"inputs": {"n": "3"}}'), "research"
        )
        await asyncio.to_thread(node.ctl, "close_all_connections", "--vhost", amqp.rpartition("/")[2], "canary")
        await eventually(lambda: _is(_value(len(called)), 2), "both runs have succeeded and were called back")
        for path in ("/metrics", "/readyz", "/openapi.json", "/v1/runs", "/v1/crews"):
            async with http.get(daemon.url + path, headers={"Authorization": f"Bearer {CLIENT}"}) as response:
                responses.append(await response.read())
    results = await drain(amqp, 2)
    events = b"".join(body for bodies in results.bodies.values() for body in bodies)
    return {"answers": b"\n".join(responses), "events": events}


async def _is(value: Awaitable[int], expected: int) -> bool:
    return await value >= expected


async def _value(number: int) -> int:
    return number


@asynccontextmanager
async def _receiver(called: list[bytes]) -> AsyncIterator[str]:
    """Accepts callbacks; keeps the headers and the body of each."""

    async def take(request: web.Request) -> web.Response:
        called.append(f"{dict(request.headers)}".encode() + await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/in", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
