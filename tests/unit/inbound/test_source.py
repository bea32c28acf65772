"""Sources: the mapping of messages of other systems, whose rules can use the properties."""

from typing import Any

import pytest

from bridge.core.errors import RequestRefused
from bridge.core.inbound.mapping import Rule, compile_expression
from bridge.core.inbound.source import Source, SourceMessage, read
from bridge.core.runs.model import KickoffRequest

PLACED = {"type": "order.placed", "order": {"id": 1042, "title": "otters"}}


def source(when: str | None = None, key: str | None = None, **inputs: str) -> Source:
    rule = Rule(
        when=None if when is None else compile_expression(when),
        inputs={name: compile_expression(text) for name, text in inputs.items()},
        idempotency_key=None if key is None else compile_expression(key),
    )
    return Source("orders", "research", rule)


def message(body: Any = PLACED, key: str | None = None, headers: Any = None, **properties: Any) -> SourceMessage:
    return SourceMessage(body, headers or {}, properties, key)


def made(source: Source, message: SourceMessage) -> KickoffRequest:
    request = read(source, message)
    assert request is not None
    return request


def test_a_message_becomes_a_request():
    mapped = made(source("type == 'order.placed'", "order.id", topic="order.title"), message())
    assert mapped == KickoffRequest("research", {"topic": "otters"}, idempotency_key="1042")


def test_a_message_for_which_when_is_false_becomes_nothing():
    assert read(source("type == 'order.paid'", topic="order.title"), message()) is None


def test_the_keys_of_different_sources_never_collide():
    assert source().source == "source/orders"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("properties.type", "t"),
        ("headers.Tenant", "a"),
        ("body.properties", {"type": "forged"}),
        ("headers.authorization || 'hidden'", "hidden"),
        ("query", "a member"),
    ],
)
def test_properties_and_headers_cannot_be_imitated_and_members_of_the_body_are_visible(expression: str, value: Any):
    body = {"properties": {"type": "forged"}, "headers": {"tenant": "forged"}, "query": "a member"}
    headers = {"tenant": "a", "authorization": "Bearer secret"}
    assert made(source(found=expression), message(body, headers=headers, type="t")).inputs == {"found": value}


@pytest.mark.parametrize(("expression", "key"), [(None, "m-7"), ("order.id", "1042")])
def test_the_mapped_key_takes_precedence_over_that_of_the_message(expression: str | None, key: str):
    assert made(source(key=expression), message(key="m-7")).idempotency_key == key


def test_a_mapped_key_is_never_replaced_by_that_of_the_message():
    """The rule says what identifies the order; a random `message_id` would start a second run."""
    with pytest.raises(RequestRefused) as refused:
        read(source(key="order.number"), message(key="m-7"))
    assert (refused.value.code, refused.value.field) == ("invalid_request", "idempotency_key")


@pytest.mark.parametrize(("properties", "priority"), [({}, 0), ({"priority": 7}, 7)])
def test_the_priority_of_the_message_is_kept(properties: dict[str, Any], priority: int):
    assert made(source(), message(**properties)).priority == priority
