"""Parsing of messages: requests, envelopes, CloudEvents, and dead letters of refused messages."""

import json
import math
from typing import Any, cast

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pamqp import commands as spec
from pamqp.header import ContentHeader

from bridge.adapters.amqp.frames import UNREADABLE
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.messages import PACKED, MessageRules, is_command, read_command, read_refused, read_request
from bridge.adapters.amqp.values import unpack
from bridge.core.errors import RequestRefused
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.commands import Cancel
from bridge.core.runs.model import Envelope, KickoffRequest
from bridge.ports.inbound import RunKey

RULES = MessageRules("kickoff.requests", 1000, ("amq.gen-*", "reply.*"))
BODY = {"crew": "research", "inputs": {"topic": "otters"}}
ATTRIBUTES = {"specversion": "1.0", "id": "7", "source": "/shop/orders", "type": "order.created"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def message(
    body: Any = BODY,
    *,
    exchange: str = "",
    routing_key: str = "kickoff.requests",
    redelivered: bool = False,
    **properties: Any,
) -> InboundMessage:
    """A message as the library delivers it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    deliver = spec.Basic.Deliver("tag", 1, redelivered, exchange, routing_key)
    header = ContentHeader(properties=spec.Basic.Properties(**properties), body_size=len(raw))
    return InboundMessage.read(DeliveredMessage(deliver, header, raw, cast("AbstractChannel", None)))


def read(*args: Any, **kwargs: Any) -> tuple[KickoffRequest, Envelope]:
    return read_request(message(*args, **kwargs), RULES)


def refusal(*args: Any, **kwargs: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        read(*args, **kwargs)
    return caught.value


def structured(**changes: Any) -> dict[str, Any]:
    return {**ATTRIBUTES, "data": BODY, **changes}


def test_a_plain_message_is_a_request():
    """A body only: no key, no reply queue, no correlation id."""
    request, envelope = read()
    assert request == KickoffRequest("research", {"topic": "otters"})
    assert envelope == Envelope("queue/kickoff.requests")


def test_the_routing_key_names_the_crew_if_the_body_does_not():
    """Only through the requests exchange: of a message sent directly to the queue, it is the name of the queue."""
    assert read({}, exchange="kickoff.requests", routing_key="research")[0].crew == "research"
    assert read(exchange="kickoff.requests", routing_key="other")[0].crew == "research"
    assert refusal({}).field == "crew"
    assert refusal({}, exchange="audit", routing_key="research").field == "crew"
    assert refusal({}, exchange="kickoff.requests", routing_key="").field == "crew"


def test_the_key_of_the_body_takes_precedence_over_the_message_id():
    """Some clients generate a message id for each publish."""
    assert read(message_id="m")[0].idempotency_key == "m"
    assert read({**BODY, "idempotency_key": "b"}, message_id="m")[0].idempotency_key == "b"


def test_an_empty_property_equals_an_absent_one():
    """Some clients send empty text for an absent property; it was refused as an unprintable key."""
    request, envelope = read(message_id="", correlation_id="", reply_to="", message_type="", content_type="")
    assert request.idempotency_key is None
    assert (envelope.correlation_id, envelope.reply_to) == (None, None)


def test_the_priority_of_the_body_takes_precedence():
    """The property applies if the body has no priority."""
    assert read(priority=4)[0].priority == 4
    assert read({**BODY, "priority": 0}, priority=4)[0].priority == 0
    assert read({**BODY, "priority": None}, priority=4)[0].priority == 4


def test_the_envelope_is_read():
    """The correlation id, an allowed reply queue, and the redelivery flag of the broker are kept."""
    envelope = read(correlation_id="c", reply_to="reply.a", redelivered=True)[1]
    assert (envelope.correlation_id, envelope.reply_to, envelope.redelivered) == ("c", "reply.a", True)


@pytest.mark.parametrize("queue", ["kickoff.results", "xreply.a", "Reply.a", "reply.\n"])
def test_other_reply_queues_are_refused(queue: str):
    """A message must not make the bridge write to any queue."""
    assert refusal(reply_to=queue).code == "reply_to_not_allowed"


def test_unprintable_correlation_ids_are_refused():
    """They would be part of every event."""
    assert refusal(correlation_id="a\nb").code == "invalid_request"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (TRACE, TRACE),
        (TRACE.encode(), TRACE),
        ("cc" + TRACE[2:] + "-what-comes-later", "cc" + TRACE[2:] + "-what-comes-later"),
        (TRACE.upper(), None),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None),
        ("ff" + TRACE[2:], None),
        (b"\xff", None),
        (7, None),
    ],
)
def test_an_invalid_traceparent_is_ignored(header: Any, kept: str | None):
    """A W3C trace context is kept; anything else is dropped without a refusal."""
    assert read(headers={"traceparent": header})[1].traceparent == kept


@pytest.mark.parametrize("kind", [None, "", "kickoff"])
def test_types_of_kickoffs(kind: str | None):
    """The property is optional."""
    assert read(message_type=kind)[0].crew == "research"


@pytest.mark.parametrize("kind", ["resume", "cancel", "order.created", "Kickoff"])
def test_other_types_are_refused(kind: str):
    """Nothing starts that was not requested."""
    assert refusal(message_type=kind).code == "invalid_request"


def test_size_and_encoding_are_checked_first():
    """A body that is too large or compressed is never parsed."""
    assert refusal(b"x" * 1001).code == "too_large"
    assert refusal(content_encoding="gzip").code == "invalid_request"
    for encoding in ("UTF-8", "utf8", "UTF8", "identity", "Identity", ""):
        assert read(content_encoding=encoding)[0].crew == "research"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": NaN}', b'{"crew": "a", "crew": "b"}'])
def test_invalid_json_is_refused(body: bytes):
    """Parsed as strictly as over HTTP."""
    assert refusal(body).code == "invalid_json"


def test_a_structured_cloudevent_is_read():
    """Its data is the body, source and id are the key; the message id, which is often random, is not used."""
    sent = amqp.to_structured_event(CloudEvent(dict(ATTRIBUTES), BODY))
    for content_type in ("application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8"):
        request, _ = read(sent.application_data, content_type=content_type, message_id="random")
        assert (request.crew, request.idempotency_key) == ("research", "/shop/orders 7")


def test_a_cloudevent_may_begin_with_a_byte_order_mark():
    """The SDK refused a structured one."""
    structured_event = b"\xef\xbb\xbf" + json.dumps(structured()).encode()
    assert read(structured_event, content_type="application/cloudevents+json")[0].idempotency_key == "/shop/orders 7"
    headers = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}
    binary_event = b"\xef\xbb\xbf" + json.dumps(BODY).encode()
    assert read(binary_event, headers=headers)[0].idempotency_key == "/shop/orders 7"


@pytest.mark.parametrize("prefix", ["cloudEvents_", "cloudEvents:", "ce-", "ce_", "CE-"])
def test_a_binary_cloudevent_is_read(prefix: str):
    """With the header names of both conventions; a type property that repeats the type of the event is valid."""
    headers = {prefix + name: value for name, value in ATTRIBUTES.items()}
    request, _ = read(headers=headers, content_type="application/json", message_type="order.created")
    assert (request.crew, request.idempotency_key) == ("research", "/shop/orders 7")


def test_binary_cloudevents_of_the_sdk_are_read():
    """With native times and times as text; the trace context may be an attribute."""
    event = CloudEvent({**ATTRIBUTES, "traceparent": TRACE}, BODY)
    first, second = amqp.to_binary_event(event), rabbitmq.to_binary_event(event)
    for headers, body in ((first.application_properties, first.application_data), (second.headers, second.body)):
        request, envelope = read(body, headers=dict(headers))
        assert (request.idempotency_key, envelope.traceparent) == ("/shop/orders 7", TRACE)


def test_the_key_of_the_body_takes_precedence_over_the_cloudevent():
    """The order of precedence: body, event, message."""
    body = structured(data={**BODY, "idempotency_key": "b"})
    assert read(body, content_type="application/cloudevents+json")[0].idempotency_key == "b"


def test_a_long_source_and_id_are_shortened_to_a_key():
    """A key is limited to 255 bytes, the source of a CloudEvent is not."""
    key = read(structured(source="/" + "s" * 300), content_type="application/cloudevents+json")[0].idempotency_key
    assert key is not None
    assert key.startswith("sha256:")


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"id": 7},
        {"source": "a b"},
        {"time": "yesterday"},
        {"time": 5},
        {"Bad_Name": "x"},
        {"data": None},
        {"data": "text"},
        {"data": [1]},
        {"data": None, "data_base64": 7},
    ],
    ids=str,
)
def test_invalid_cloudevents_are_refused(changes: dict[str, Any]):
    """With a message, never with an unexpected exception."""
    assert refusal(structured(**changes), content_type="application/cloudevents+json").code == "invalid_request"


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
def test_missing_attributes_are_not_generated(missing: str):
    """The SDK would generate an id, and every redelivery would be a new request."""
    body = {name: value for name, value in structured().items() if name != missing}
    assert missing in refusal(body, content_type="application/cloudevents+json").detail


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_other_formats_are_refused(content_type: str):
    """A message contains one request."""
    assert refusal(structured(), content_type=content_type).code == "invalid_request"


def test_a_cloudevent_with_binary_data_is_read():
    """`data_base64` contains the body."""
    sent = amqp.to_structured_event(CloudEvent(dict(ATTRIBUTES), json.dumps(BODY).encode()))
    assert read(sent.application_data, content_type=JSONFormat.CONTENT_TYPE)[0].crew == "research"


def test_a_refused_message_keeps_harmless_headers():
    """No header that routes, that the broker interprets, or that cannot be stored."""
    headers = {
        "tenant": "a",
        "retry": 3,
        "test": True,
        "CC": "x",
        "bcc": "y",
        "x-death": "z",
        "blob": b"b",
        "nul": "\0",
        "share": 0.5,
        "none": math.nan,
        "x-request-id": "r",
        "x-deathly": "d",
    }
    properties: dict[str, Any] = {"message_id": "m", "reply_to": "reply.a", "app_id": "shop", "priority": 7}
    sent = message(b"{", headers=headers, content_type="application/json", **properties)
    kept = read_refused(sent, RULES, RequestRefused("invalid_json", "d" * 999))
    assert kept.headers == {
        "tenant": "a",
        "retry": 3,
        "test": True,
        "share": 0.5,
        "x-request-id": "r",
        "x-deathly": "d",
        "x-bridge-original-message_id": "m",
        "x-bridge-original-reply_to": "reply.a",
        "x-bridge-original-app_id": "shop",
        "x-bridge-original-priority": 7,
        PACKED: kept.headers[PACKED],
    }
    odd = unpack(str(kept.headers[PACKED]))
    assert (set(odd), odd["blob"], odd["nul"]) == ({"blob", "nul", "none"}, "b", "\0")
    assert math.isnan(odd["none"])
    assert (kept.body, kept.content_type, kept.code, len(kept.detail)) == (
        b"{",
        "application/json",
        "invalid_json",
        256,
    )
    assert (kept.reply_to, kept.crew, kept.correlation_id) == ("reply.a", None, None)


@pytest.mark.parametrize(
    "header",
    [
        "Cc",
        "BCC",
        "x-death",
        "X-Death",
        "x-first-death-queue",
        "x-last-death-reason",
        "x-delivery-count",
        "x-acquired-count",
        "x-received-from",
        "x-opt-delivery-time",
        "x-delay",
        "x-deduplication-header",
        "x-bridge-reason",
        "X-Bridge-Original-type",
        "x-bridge-\n",
        UNREADABLE,
    ],
)
def test_a_refused_message_drops_headers_with_a_meaning(header: str):
    """The sender could have it routed, delayed, or dropped when it is published again, or make it look like another."""
    refused = read_refused(message(b"{", headers={header: "x"}), RULES, RequestRefused("invalid_json", "no"))
    assert refused.headers == {}


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({f"h{number}": number for number in range(1000)}, 64),
        ({"a": "x" * 120_000, "b": "y"}, 1),
        ({f"h{number}": "é" * 2000 for number in range(20)}, 4),
        ({"n" * 255: "kept", "n" * 256: "no header of AMQP"}, 1),
    ],
)
def test_a_refused_message_keeps_as_many_headers_as_fit(headers: dict[str, Any], kept: int):
    """Headers that nearly filled a frame were published with the bridge's own: every publish broke the connection."""
    refused = read_refused(message(b"{", headers=headers), RULES, RequestRefused("invalid_json", "no"))
    assert len(refused.headers) == kept
    assert sum(len(f"{name}{value}".encode()) for name, value in refused.headers.items()) <= 16 * 1024


def test_a_refusal_is_sent_only_to_an_allowed_reply_queue():
    """The refusal event never goes to a forbidden queue."""
    sent = message(reply_to="kickoff.results", exchange="kickoff.requests", routing_key="research", correlation_id="c")
    kept = read_refused(sent, RULES, RequestRefused("reply_to_not_allowed", "no"))
    assert (kept.reply_to, kept.crew, kept.correlation_id) == (None, "research", "c")
    assert kept.headers["x-bridge-original-routing_key"] == "research"


IN_EVENT = {"content_type": "application/cloudevents+json"}
BY_HEADERS = {"headers": {f"ce-{name}": value for name, value in ATTRIBUTES.items()}}


@pytest.mark.parametrize(
    ("body", "properties", "crew", "key"),
    [
        (BODY, {}, "research", None),
        ({**BODY, "idempotency_key": "b"}, {"message_id": "m"}, "research", "b"),
        ({"crew": "research", "inputs": 3, "idempotency_key": "b", "why": 1}, {}, "research", "b"),
        ({"inputs": 3}, {"message_id": "m"}, "routed", "m"),
        ({"crew": 7, "idempotency_key": 7}, {"message_id": "m"}, "routed", "m"),
        ({"crew": "", "idempotency_key": "k" * 256}, {"message_id": ""}, "routed", None),
        ({"crew": "research", "idempotency_key": "k"}, {"content_encoding": "gzip"}, "research", "k"),
        (b"{", {"message_id": "m"}, "routed", "m"),
        (b"[]", {"message_id": "m"}, "routed", "m"),
        (b'{"crew": "research", "idempotency_key": "b"' + b" " * 1000 + b"}", {"message_id": "m"}, "routed", "m"),
        (structured(data={**BODY, "inputs": 3}), {**IN_EVENT, "message_id": "m"}, "research", "/shop/orders 7"),
        (structured(data={**BODY, "idempotency_key": "b"}, time=5), IN_EVENT, "research", "b"),
        (structured(data="text"), IN_EVENT, "routed", "/shop/orders 7"),
        (structured(data=None, data_base64="eyJjcmV3IjoicmVzZWFyY2gifQ=="), IN_EVENT, "research", "/shop/orders 7"),
        (structured(data=None, data_base64="e"), IN_EVENT, "routed", "/shop/orders 7"),
        (structured(id=7), {**IN_EVENT, "message_id": "m"}, "research", "m"),
        (structured(source="a b"), IN_EVENT, "research", None),
        ({"crew": "research", "inputs": 3}, BY_HEADERS, "research", "/shop/orders 7"),
        (b"x" * 1001, BY_HEADERS, "routed", "/shop/orders 7"),
    ],
)
@pytest.mark.parametrize("kind", [None, "resume", "cancel"])
def test_a_refused_message_names_its_crew_and_key_if_readable(
    body: Any, properties: dict[str, Any], crew: str, key: str | None, kind: str | None
):
    """The message id was reported instead, by which the sender of a refused body could not identify its request."""
    sent = message(body, exchange="kickoff.requests", routing_key="routed", message_type=kind, **properties)
    kept = read_refused(sent, RULES, RequestRefused("invalid_request", "no"))
    assert (kept.crew, kept.idempotency_key) == (crew, key)


SOURCE = "queue/kickoff.requests"


def commands(body: dict[str, Any], **kwargs: Any) -> Any:
    return read_command(message(json.dumps(body).encode(), **kwargs), RULES)


@pytest.mark.parametrize(
    ("kind", "is_a_command"), [("resume", True), ("cancel", True), ("kickoff", False), (None, False)]
)
def test_types_of_commands(kind: str | None, is_a_command: bool):
    assert is_command(message(message_type=kind)) is is_a_command


def test_a_cancel_command_names_its_run():
    assert commands({"run_id": "r-1"}, message_type="cancel") == ("r-1", Cancel())


def test_an_answer_is_identified_by_its_message_id():
    wanted, command = commands({"run_id": "r-1", "approve": True}, message_type="resume", message_id="m-1")
    assert (wanted, command) == ("r-1", Resume(approve=True, key=f"{SOURCE} m-1"))
    assert commands({"run_id": "r-1", "feedback": "x"}, message_type="resume")[1] == Resume("x")


@pytest.mark.parametrize("crew", [{"crew": "research"}, {}])
def test_a_run_may_be_named_by_its_key_and_crew(crew: dict[str, str]):
    """The crew is in the body or is the routing key."""
    by_exchange = {"exchange": "kickoff.requests", "routing_key": "research"}
    wanted, _ = commands({"idempotency_key": "order-1", **crew}, message_type="cancel", **by_exchange)
    assert wanted == RunKey(SOURCE, "research", "order-1")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "run_id"),
        ({"run_id": "r", "idempotency_key": "k"}, "run_id"),
        ({"run_id": 7}, "run_id"),
        ({"idempotency_key": 7}, "idempotency_key"),
        ({"idempotency_key": "k", "crew": 7}, "crew"),
        ({"run_id": "r", "why": "x"}, "why"),
    ],
)
@pytest.mark.parametrize("kind", ["resume", "cancel"])
def test_an_invalid_command_names_the_field(body: dict[str, Any], field: str, kind: str):
    with pytest.raises(RequestRefused) as caught:
        commands(body, message_type=kind)
    assert (caught.value.code, caught.value.field) == ("invalid_request", field)


@pytest.mark.parametrize("properties", [{"headers": {UNREADABLE: "message_id \\xff"}}, {"content_encoding": "gzip"}])
@pytest.mark.parametrize("kind", ["resume", "cancel"])
def test_commands_are_parsed_as_strictly_as_requests(properties: dict[str, Any], kind: str):
    """An answer with an unreadable message id was accepted without the key that identifies a second copy."""
    with pytest.raises(RequestRefused) as caught:
        commands({"run_id": "r-1"}, message_type=kind, **properties)
    assert caught.value.code == "invalid_request"


def test_a_routing_key_that_cannot_be_a_crew_name_is_refused():
    """With a NUL in it, the database failed, and the process with it."""
    with pytest.raises(RequestRefused) as caught:
        commands({"idempotency_key": "k"}, message_type="cancel", exchange="kickoff.requests", routing_key="a\x00b")
    assert caught.value.field == "crew"


def test_a_cloudevent_may_be_a_command_and_is_identified_by_source_and_id():
    event = structured(data={"run_id": "r-1", "approve": True})
    kind = {"message_type": "resume", "content_type": "application/cloudevents+json"}
    wanted, command = commands(event, **kind)
    assert (wanted, command.approve) == ("r-1", True)
    assert command.key.startswith(f"{SOURCE} ")


@pytest.mark.parametrize(
    ("body", "expiration", "start_by"),
    [
        (BODY, "60000", 60.0),
        (BODY | {"start_by": None}, "1500", 1.5),
        (BODY | {"start_by": "2h"}, "60000", 7200.0),
        (BODY, "0", 0.001),
        (BODY, None, None),
    ],
)
def test_the_expiration_is_the_time_to_start_by_unless_the_body_sets_one(
    body: dict[str, Any], expiration: str | None, start_by: float | None
) -> None:
    assert read(body, expiration=expiration)[0].start_by == start_by
