"""Events and the CloudEvents SDKs: messages and callbacks in both modes, read by Python and JavaScript."""

import json
from datetime import datetime
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import amqp, http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.system.interop.environment import META, Results

KEYS = {"research.started", "research.succeeded", "closed.failed"}
ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "datacontenttype")


def callback_events(results: Results) -> dict[str, Any]:
    """Event id → the event as delivered by callback; these bytes are structured in both modes."""
    return {event["id"]: event for event in (json.loads(body) for _, body in results.posts)}


def read(message: AbstractIncomingMessage) -> CloudEvent:
    properties = {"content-type": message.content_type}
    return amqp.from_amqp_event(amqp.AMQPMessage(properties, dict(message.headers), message.body))


def check(event: BaseCloudEvent, expected: dict[str, Any]) -> None:
    attributes = event.get_attributes()
    assert {name: attributes[name] for name in ATTRIBUTES} == {name: expected[name] for name in ATTRIBUTES}
    assert attributes["time"] == datetime.fromisoformat(expected["time"])
    assert set(attributes) == {*ATTRIBUTES, "time"}
    assert event.get_data() == expected["data"]


def test_the_python_sdk_reads_every_message(results: Results):
    assert {message.routing_key for message in results.messages} == KEYS
    expected = callback_events(results)
    for message in results.messages:
        event = read(message)
        assert event.get_id() == message.message_id
        if message.routing_key != "closed.failed":  # of a crew without a callback URL
            check(event, expected[event.get_id()])


def test_the_python_sdk_reads_every_reply(results: Results):
    """The run's events, and the refusal of the invalid request."""
    events = [read(message) for message in results.replies]
    assert {event.get_type() for event in events} == {"request.rejected", "run.started", "run.succeeded"}
    [rejected] = [event for event in events if event.get_type() == "request.rejected"]
    data = rejected.get_data()
    assert isinstance(data, dict)
    assert set(data) == {"code", "message", "crew", "idempotency_key"}
    assert (data["code"], data["crew"], data["idempotency_key"]) == ("invalid_json", "research", "order-0")


def test_the_python_sdk_reads_every_callback(results: Results):
    for headers, body in results.posts:
        event = http.from_http_event(http.HTTPMessage(headers, body), JSONFormat())
        check(event, json.loads(body))


@pytest.mark.usefixtures("with_javascript")
def test_the_javascript_sdk_reads_every_message(results: Results):
    expected = callback_events(results)
    assert {line["key"] for line in results.read_by_javascript} == KEYS
    for line in results.read_by_javascript:
        if line["key"] != "closed.failed":
            assert line["event"] == expected[line["event"]["id"]]


@pytest.mark.usefixtures("with_javascript")
def test_the_javascript_sdk_reads_every_callback(results: Results):
    expected = callback_events(results)
    events = [line["event"] for line in results.posted_to_javascript]
    assert {event["id"] for event in events} == set(expected)
    for event in events:
        assert event == expected[event["id"]]


def test_non_ascii_text_arrives_unchanged(results: Results):
    for event in callback_events(results).values():
        assert event["data"]["meta"] == META
