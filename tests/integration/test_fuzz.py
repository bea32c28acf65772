"""Thousands of bodies and header sets for each endpoint: no internal errors, and flat memory.

Seeded, so that a failure can be repeated. `BRIDGE_FUZZ` sets the number per endpoint; `make fuzz` uses 20,000.
"""

import asyncio
import json
import os
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader
from structlog.testing import capture_logs

from bridge.adapters.amqp.frames import sanitized_header
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.messages import MessageRules, read_refused, read_request
from bridge.adapters.amqp.outbound import invalid_reason, to_message
from bridge.adapters.amqp.sources import read_mapped
from bridge.composition.build import open_bridge
from bridge.config import load
from bridge.core.delivery.events import dead_letter, rejected
from bridge.core.errors import RequestRefused
from bridge.core.inbound.mapping import Rule, compile_expression
from bridge.core.inbound.source import Source
from tests.corpus import SEEDS, corrupted
from tests.fakes import NOW
from tests.patience import PATIENCE
from tests.raw_frames import entry, header, short, table, text

TRIES = int(os.environ.get("BRIDGE_FUZZ", "400"))
MOST_MEMORY = 64 * 1024 * 1024  # bytes that all requests together may leave behind
FRAME = 128 * 1024  # bytes; what a broker accepts
RULES = MessageRules("kickoff.requests", 4096, ("reply.*",))
SOURCE = Source("orders", "research", Rule(inputs={"all": compile_expression("@")}))
SOURCE_RULES = MessageRules("kickoff.orders", 4096, mapping=SOURCE)

NAMES = [
    "Content-Type",
    "Content-Encoding",
    "Idempotency-Key",
    "Prefer",
    "traceparent",
    "Authorization",
    "Expect",
    "X-A",
]
VALUES = [
    b"application/json",
    b"application/cloudevents+json; charset=utf-16",
    b"text/plain",
    b"gzip",
    b"deflate",
    b"br",
    b'"key"',
    b'"ke\\"y"',
    b'"key',
    b"wait=1",
    b"wait=99999999999999999999",
    b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    b"Bearer x",
    b"100-continue",
    b"",
    b"\xff\xfe",
    b"a" * 7000,
]
PATHS = [
    "/v1/runs",
    "/v1/runs/01920000-0000-7000-8000-000000000001/cancel",
    "/v1/runs/x%00y/resolve",
    "/v1/crews/%ff/inputs",
    "/v1/runs?state=%ff&crew=%00&limit=%31",
    "/amp/x/crew",
]


def http_request(rng: random.Random, path: str) -> bytes:
    """A complete request, mostly with valid framing."""
    body = corrupted(rng, rng.choice(SEEDS))
    lines = [f"{rng.choice(('POST', 'POST', 'POST', 'GET', 'PUT'))} {path} HTTP/1.1".encode(), b"Host: h"]
    if rng.random() < 0.7:
        lines.append(b"Content-Type: application/json")
    lines += [_header_line(rng) for _ in range(rng.randrange(4))]
    lines += [b"Content-Length: " + str(len(body)).encode(), b"Connection: close", b"", b""]
    return b"\r\n".join(lines) + body


def _header_line(rng: random.Random) -> bytes:
    return rng.choice(NAMES).encode() + b": " + corrupted(rng, rng.choice(VALUES)).replace(b"\r\n", b"")


def amqp_header(rng: random.Random) -> bytes:
    """The payload of a content header, with properties that are valid, unusual, or broken."""
    strings = [
        "",
        "kickoff",
        "resume",
        "reply.a",
        "kickoff.results",
        "application/json",
        "application/cloudevents+json",
    ]
    kinds: dict[str, Callable[[], bytes]] = {
        "shortstr": lambda: short(corrupted(rng, rng.choice(strings).encode())[:255]),
        "octet": lambda: rng.randbytes(1),
        "timestamp": lambda: rng.choice((struct.pack(">Q", 1_795_000_000), rng.randbytes(8))),
        "table": lambda: table(*(_entry(rng) for _ in range(rng.randrange(6)))),
    }
    properties = {
        name: kinds[spec.Basic.Properties.amqp_type(name)]()
        for name in spec.Basic.Properties.flags
        if rng.random() < 0.4
    }
    properties = {name.replace("message_type", "type"): value for name, value in properties.items()}
    checked_by_the_broker = {"expiration": short(b"60000"), "delivery_mode": b"\x02"}
    return header(properties | checked_by_the_broker)


def _entry(rng: random.Random) -> bytes:
    names = [
        b"traceparent",
        b"CC",
        b"x-death",
        b"ce-id",
        b"ce-specversion",
        b"cloudEvents_source",
        b"ce_type",
        b"tenant",
    ]
    name = corrupted(rng, rng.choice(names))[:255]
    if rng.random() < 0.7:
        return entry(name, b"S", text(corrupted(rng, rng.choice([b"1.0", b"a", b"/s", *VALUES]))))
    return entry(name, bytes([rng.randrange(256)]), rng.randbytes(rng.randrange(12)))


def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """A complete bridge with an unreachable crew, and a hook that accepts anything."""
    rule = {"inputs": {"topic": "body.topic || 'none'"}, "meta": {"all": "body"}, "when": "body.skip != `true`"}
    document = {
        "http": {"port": 0},
        "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
        "crews": {"research": {"url": "http://127.0.0.1:9", "token": "t", "kind": "flow"}},
        "hooks": {"any": {"crew": "research", "verify": {"scheme": "none", "allow_unverified": True}, **rule}},
    }
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(document))
    async with open_bridge(load(tmp_path / "bridge.yaml", environ={}), migrate=True) as bridge:
        supervisor = await bridge.start()
        yield bridge.servers[0].port
        hurry = asyncio.Event()
        hurry.set()
        await supervisor.stop(hurry)


async def request_status(port: int, sent: bytes) -> int:
    """The status of the response; 0: the connection was closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return int((await asyncio.wait_for(reader.read(64), PATIENCE)).split(b" ")[1])
    except (ConnectionError, IndexError):
        return 0
    finally:
        writer.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("paths", [PATHS, ["/hooks/any"]], ids=["api", "hooks"])
async def test_any_http_request_is_answered(port: int, paths: list[str]) -> None:
    rng = random.Random(f"http {paths}")
    await request_status(port, http_request(rng, paths[0]))
    before, responses = memory(), Counter[int]()
    with capture_logs() as logs:
        for _ in range(TRIES):
            sent = http_request(rng, rng.choice(paths))
            status = await request_status(port, sent)
            responses[status] += 1
            assert 0 < status < 500, sent
            logs[:] = [line for line in logs if line["log_level"] in {"error", "critical"}]
    assert logs == []
    assert memory() - before < MOST_MEMORY
    assert len(responses) > 4, responses
    print(f"\n{paths}: {TRIES} requests, {dict(responses)}, {(memory() - before) >> 10} KiB more")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rules", [RULES, SOURCE_RULES], ids=["requests", "source"])
def test_any_message_is_accepted_or_refused(rules: MessageRules) -> None:
    """A refused message fits a frame again, so that nothing is redelivered forever."""
    rng = random.Random("amqp")
    before, outcomes = memory(), Counter[str]()
    for _ in range(TRIES):
        message = _message(sanitized_header(amqp_header(rng), []), corrupted(rng, rng.choice(SEEDS)), rng)
        try:
            read_request(message, rules) if rules.mapping is None else read_mapped(message, rules.mapping, rules)
        except RequestRefused as refusal:
            _sent_on(message, rules, refusal)
            outcomes[refusal.code] += 1
        else:
            outcomes["accepted"] += 1
    assert memory() - before < MOST_MEMORY
    assert {"accepted", "invalid_json", "invalid_request"} <= set(outcomes)
    print(f"\n{TRIES} messages, {dict(outcomes)}, {(memory() - before) >> 10} KiB more")


def _message(payload: bytes, body: bytes, rng: random.Random) -> InboundMessage:
    found = ContentHeader()
    found.unmarshal(payload)
    exchange, key = rng.choice(
        [("", "kickoff.requests"), ("kickoff.requests", "research"), ("kickoff.requests", "ü\0")]
    )
    deliver = spec.Basic.Deliver("tag", 1, bool(rng.randrange(2)), exchange, key)
    return InboundMessage.read(DeliveredMessage(deliver, found, body, cast("AbstractChannel", None)))


def _sent_on(message: InboundMessage, rules: MessageRules, refusal: RequestRefused) -> None:
    kept = read_refused(message, rules, refusal)
    headers: dict[str, Any] = {**kept.headers, "x-bridge-reason": kept.code, "x-bridge-detail": kept.detail}
    headers = json.loads(json.dumps(headers, ensure_ascii=False).encode())  # through the store
    letter = to_message(dead_letter("e", kept.body, kept.content_type, headers, NOW), "structured")
    assert invalid_reason(letter, "kickoff.dead") is None
    assert len(ContentHeader(properties=letter.properties).marshal()) < FRAME
    refused = {"code": kept.code, "message": kept.detail, "crew": kept.crew, "idempotency_key": kept.idempotency_key}
    notice = to_message(rejected("e", refused, kept.correlation_id, NOW), "binary")
    assert ContentHeader(properties=notice.properties).marshal()
