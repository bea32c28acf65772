"""Thousands of bodies and header sets at each door: every one is answered, none is a failure, memory stays flat.

By seed, so that a failure comes again. `BRIDGE_FUZZ` says how many for each door; `make fuzz` tries 20,000.
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
from aio_pika import IncomingMessage
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands as spec
from pamqp.header import ContentHeader
from structlog.testing import capture_logs

from bridge.adapters.amqp.frames import _PROPERTIES, sanitized_header
from bridge.adapters.amqp.messages import MessageRules, read_refused, read_request
from bridge.adapters.amqp.outbound import invalid_reason, to_message
from bridge.composition.build import open_bridge
from bridge.config import load
from bridge.core.delivery.cloudevents import dead_letter, rejected
from bridge.core.errors import RequestRefused
from tests.corpus import SEEDS, spoiled
from tests.fakes import NOW
from tests.patience import PATIENCE
from tests.raw_frames import entry, header, short, table, text

TRIES = int(os.environ.get("BRIDGE_FUZZ", "400"))
MOST_MEMORY = 64 * 1024 * 1024  # bytes that all of it may leave behind
FRAME = 128 * 1024  # bytes; what a broker takes
RULES = MessageRules("kickoff.requests", 4096, ("reply.*",))

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


def http_request(dice: random.Random, path: str) -> bytes:
    """One whole request, mostly with sound framing."""
    body = spoiled(dice, dice.choice(SEEDS))
    lines = [f"{dice.choice(('POST', 'POST', 'POST', 'GET', 'PUT'))} {path} HTTP/1.1".encode(), b"Host: h"]
    if dice.random() < 0.7:
        lines.append(b"Content-Type: application/json")
    lines += [_header_line(dice) for _ in range(dice.randrange(4))]
    lines += [b"Content-Length: " + str(len(body)).encode(), b"Connection: close", b"", b""]
    return b"\r\n".join(lines) + body


def _header_line(dice: random.Random) -> bytes:
    return dice.choice(NAMES).encode() + b": " + spoiled(dice, dice.choice(VALUES)).replace(b"\r\n", b"")


def amqp_header(dice: random.Random) -> bytes:
    """A content header's payload, of properties that are sound, odd or broken."""
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
        "short": lambda: short(spoiled(dice, dice.choice(strings).encode())[:255]),
        "octet": lambda: dice.randbytes(1),
        "time": lambda: dice.choice((struct.pack(">Q", 1_795_000_000), dice.randbytes(8))),
        "table": lambda: table(*(_entry(dice) for _ in range(dice.randrange(6)))),
    }
    properties = {name: kinds[kind]() for name, kind in _PROPERTIES if dice.random() < 0.4}
    checked_by_the_broker = {"expiration": short(b"60000"), "delivery_mode": b"\x02"}
    return header(properties | checked_by_the_broker)


def _entry(dice: random.Random) -> bytes:
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
    name = spoiled(dice, dice.choice(names))[:255]
    if dice.random() < 0.7:
        return entry(name, b"S", text(spoiled(dice, dice.choice([b"1.0", b"a", b"/s", *VALUES]))))
    return entry(name, bytes([dice.randrange(256)]), dice.randbytes(dice.randrange(12)))


def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """A whole bridge, its crew out of reach; with a hook that takes anything."""
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
        await supervisor.stop(asyncio.Event())


async def ask(port: int, sent: bytes) -> int:
    """The status of the answer; 0: the connection was closed without one."""
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
    dice = random.Random(f"http {paths}")
    await ask(port, http_request(dice, paths[0]))
    before, responses = memory(), Counter[int]()
    with capture_logs() as logs:
        for _ in range(TRIES):
            sent = http_request(dice, dice.choice(paths))
            status = await ask(port, sent)
            responses[status] += 1
            assert 0 < status < 500, sent
            logs[:] = [line for line in logs if line["log_level"] in {"error", "critical"}]
    assert logs == []
    assert memory() - before < MOST_MEMORY
    assert len(responses) > 4, responses
    print(f"\n{paths}: {TRIES} requests, {dict(responses)}, {(memory() - before) >> 10} KiB more")


@pytest.mark.timeout(600)
def test_any_message_is_read_or_refused() -> None:
    """And what is refused fits a frame again, so that nothing goes round for ever."""
    dice = random.Random("amqp")
    before, outcomes = memory(), Counter[str]()
    for _ in range(TRIES):
        message = _message(sanitized_header(amqp_header(dice), []), spoiled(dice, dice.choice(SEEDS)), dice)
        try:
            read_request(message, RULES)
        except RequestRefused as refusal:
            _sent_on(message, refusal)
            outcomes[refusal.code] += 1
        else:
            outcomes["accepted"] += 1
    assert memory() - before < MOST_MEMORY
    assert {"accepted", "invalid_json", "invalid_request"} <= set(outcomes)
    print(f"\n{TRIES} messages, {dict(outcomes)}, {(memory() - before) >> 10} KiB more")


def _message(payload: bytes, body: bytes, dice: random.Random) -> IncomingMessage:
    found = ContentHeader()
    found.unmarshal(payload)
    exchange, key = dice.choice(
        [("", "kickoff.requests"), ("kickoff.requests", "research"), ("kickoff.requests", "ü\0")]
    )
    deliver = spec.Basic.Deliver("tag", 1, bool(dice.randrange(2)), exchange, key)
    return IncomingMessage(DeliveredMessage(deliver, found, body, cast("AbstractChannel", None)))


def _sent_on(message: IncomingMessage, refusal: RequestRefused) -> None:
    kept = read_refused(message, RULES, refusal)
    headers: dict[str, Any] = {**kept.headers, "x-bridge-reason": kept.code, "x-bridge-detail": kept.detail}
    headers = json.loads(json.dumps(headers, ensure_ascii=False).encode())  # by way of the store
    letter = to_message(dead_letter("e", kept.body, kept.content_type, headers, NOW), "structured")
    assert invalid_reason(letter, "kickoff.dead") is None
    assert len(ContentHeader(properties=letter.properties).marshal()) < FRAME
    refused = {"code": kept.code, "message": kept.detail, "crew": kept.crew, "idempotency_key": kept.idempotency_key}
    notice = to_message(rejected("e", refused, kept.correlation_id, NOW), "binary")
    assert ContentHeader(properties=notice.properties).marshal()
