"""Messages of other systems: their default key, what rules can use, and the dead letters of refused ones."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.adapters.amqp.frames import UNREADABLE
from bridge.adapters.amqp.messages import MessageRules, read_refused
from bridge.adapters.amqp.sources import read_mapped
from bridge.core.errors import RequestRefused
from bridge.core.inbound.mapping import Rule, compile_expression
from bridge.core.inbound.source import Source
from bridge.core.runs.model import Envelope, KickoffRequest
from tests.component.amqp.test_messages import ATTRIBUTES, TRACE, message

PLACED = {"type": "order.placed", "order": {"title": "otters"}}


def rules(**expressions: Any) -> MessageRules:
    built: dict[str, Any] = {
        name: {key: compile_expression(text) for key, text in value.items()}
        if isinstance(value, dict)
        else compile_expression(value)
        for name, value in expressions.items()
    }
    return MessageRules("shop.orders", 1000, mapping=Source("orders", "research", Rule(**built)))


UNCONDITIONAL = rules()


def read(
    body: Any = PLACED, rules: MessageRules = UNCONDITIONAL, **properties: Any
) -> tuple[KickoffRequest, Envelope] | None:
    assert rules.mapping is not None
    return read_mapped(message(body, exchange="shop.orders", **properties), rules.mapping, rules)


def made(body: Any = PLACED, rules: MessageRules = UNCONDITIONAL, **properties: Any) -> tuple[KickoffRequest, Envelope]:
    found = read(body, rules, **properties)
    assert found is not None
    return found


def seen(expression: str, **properties: Any) -> Any:
    """What an expression yields for a message with these properties."""
    return made(rules=rules(meta={"seen": expression}), **properties)[0].meta["seen"]


def test_a_message_becomes_a_request_of_the_source():
    mapped = rules(when="type == 'order.placed'", inputs={"topic": "order.title"})
    request, envelope = made(rules=mapped, message_id="m-7", correlation_id="c-1", priority=3, redelivered=True)
    assert request == KickoffRequest("research", {"topic": "otters"}, idempotency_key="m-7", priority=3)
    assert envelope == Envelope("source/orders", correlation_id="c-1", redelivered=True)


@pytest.mark.parametrize("body", [{"type": "order.paid"}, "text", 7, None, [PLACED]])
def test_a_message_for_which_when_is_false_becomes_nothing(body: Any):
    """Whatever its shape is."""
    assert read(body, rules(when="type == 'order.placed'")) is None


@pytest.mark.parametrize(
    ("body", "properties", "key"),
    [
        (PLACED, {}, None),
        (PLACED, {"message_id": ""}, None),
        (PLACED, {"message_id": "m-7"}, "m-7"),
        (
            {**ATTRIBUTES, "data": "of any shape"},
            {"content_type": "application/cloudevents+json", "message_id": "m-7"},
            "/shop/orders 7",
        ),
        (
            [1],
            {"headers": {f"cloudEvents_{name}": value for name, value in ATTRIBUTES.items()}, "message_id": "m-7"},
            "/shop/orders 7",
        ),
        (ATTRIBUTES, {"message_id": "m-7"}, "m-7"),
        ([ATTRIBUTES], {"content_type": "application/cloudevents-batch+json", "message_id": "m-7"}, "m-7"),
    ],
)
def test_the_key_is_that_of_a_cloudevent_or_the_message_id(body: Any, properties: dict[str, Any], key: str | None):
    assert made(body, **properties)[0].idempotency_key == key


@pytest.mark.parametrize(
    ("expression", "properties", "value"),
    [
        ("properties.type", {"message_type": "cancel"}, "cancel"),
        ("properties.app_id", {"app_id": "shop"}, "shop"),
        ("properties.app_id", {"app_id": ""}, None),
        ("properties.reply_to", {"reply_to": "shop.rpc"}, "shop.rpc"),
        ("headers.tenant", {"headers": {"Tenant": "a"}}, "a"),
        ("headers.blob", {"headers": {"blob": b"caf\xc3\xa9"}}, "café"),
        ("headers.at", {"headers": {"at": datetime(2026, 11, 30, tzinfo=UTC)}}, "2026-11-30T00:00:00.000Z"),
        ("headers.list[0].a", {"headers": {"list": [{"a": 1}]}}, 1),
        ("headers.nan", {"headers": {"nan": float("nan")}}, "nan"),
        ('headers."x-death"', {"headers": {"x-death": "forged"}}, None),
        ("headers.authorization", {"headers": {"Authorization": "Bearer secret"}}, None),
    ],
)
def test_rules_see_what_a_dead_letter_keeps_as_json(expression: str, properties: dict[str, Any], value: Any):
    """So a replayed message is mapped like the first time."""
    assert seen(expression, **properties) == value


@pytest.mark.parametrize("name", ["timestamp", "expiration", "user_id", "routing_key"])
def test_rules_do_not_see_what_a_replay_changes(name: str):
    properties = {"timestamp": datetime(2026, 11, 30, tzinfo=UTC), "expiration": "1000", "user_id": "guest"}
    assert seen(f"properties.{name}", **properties) is None


def test_the_protocol_of_the_other_system_is_left_alone():
    """Its reply queue gets nothing, and what the bridge cannot return with events is no reason to refuse."""
    envelope = made(reply_to="shop.rpc", message_type="cancel", correlation_id="a\nb")[1]
    assert envelope == Envelope("source/orders")


@pytest.mark.parametrize(
    ("body", "properties"),
    [(PLACED, {"headers": {"traceparent": TRACE}}), ({**ATTRIBUTES, "traceparent": TRACE}, {})],
)
def test_the_trace_context_is_kept(body: Any, properties: dict[str, Any]):
    assert made(body, **properties)[1].traceparent == TRACE


@pytest.mark.parametrize(
    ("body", "properties", "code"),
    [
        (b"<order/>", {}, "invalid_json"),
        (PLACED | {"more": "x" * 1000}, {}, "too_large"),
        (PLACED, {"content_encoding": "gzip"}, "invalid_request"),
        (PLACED, {"headers": {UNREADABLE: "message_id"}}, "invalid_request"),
        (PLACED, {"message_id": "a\nb"}, "invalid_request"),
        ({"order": {}}, {}, "invalid_request"),
    ],
)
def test_a_message_that_cannot_be_mapped_is_refused(body: Any, properties: dict[str, Any], code: str):
    with pytest.raises(RequestRefused) as refused:
        read(body, rules(inputs={"topic": "order.title"}), **properties)
    assert refused.value.code == code


def test_a_dead_letter_names_the_queue_of_its_source_and_causes_no_notice():
    """Its routing key names no crew, even if the exchange has the name of the queue."""
    refused = message(
        json.dumps({"crew": "triage"}).encode(),
        exchange="shop.orders",
        routing_key="order.placed",
        reply_to="amq.gen-x",
        message_id="m-7",
    )
    kept = read_refused(refused, rules(), RequestRefused("invalid_request", "no"))
    assert kept.headers == {
        "x-bridge-original-message_id": "m-7",
        "x-bridge-original-reply_to": "amq.gen-x",
        "x-bridge-original-queue": "shop.orders",
    }
    assert (kept.reply_to, kept.crew) == (None, "research")
