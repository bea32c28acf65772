"""Events and the CloudEvents SDKs: read from messages and callbacks alike, in both modes, by Python and JavaScript."""

import json
from datetime import datetime
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import amqp, http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from tests.system.interop.scene import META, Harvest

KEYS = {"research.started", "research.succeeded", "closed.failed"}
ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "datacontenttype")


def told(harvest: Harvest) -> dict[str, Any]:
    """Event id → the event as it was called in; these bytes are structured in both modes."""
    return {event["id"]: event for event in (json.loads(body) for _, body in harvest.posts)}


def read(message: AbstractIncomingMessage) -> CloudEvent:
    properties = {"content-type": message.content_type}
    return amqp.from_amqp_event(amqp.AMQPMessage(properties, dict(message.headers), message.body))


def check(event: BaseCloudEvent, wanted: dict[str, Any]) -> None:
    attributes = event.get_attributes()
    assert {name: attributes[name] for name in ATTRIBUTES} == {name: wanted[name] for name in ATTRIBUTES}
    assert attributes["time"] == datetime.fromisoformat(wanted["time"])
    assert set(attributes) == {*ATTRIBUTES, "time"}
    assert event.get_data() == wanted["data"]


def test_the_python_sdk_reads_every_message(harvest: Harvest):
    assert {message.routing_key for message in harvest.messages} == KEYS
    wanted = told(harvest)
    for message in harvest.messages:
        event = read(message)
        assert event.get_id() == message.message_id
        if message.routing_key != "closed.failed":  # of a crew without a callback URL
            check(event, wanted[event.get_id()])


def test_the_python_sdk_reads_every_reply(harvest: Harvest):
    """The run's events, and the refusal of what was no request."""
    events = [read(message) for message in harvest.replies]
    assert {event.get_type() for event in events} == {"request.rejected", "run.started", "run.succeeded"}
    [rejected] = [event for event in events if event.get_type() == "request.rejected"]
    data = rejected.get_data()
    assert isinstance(data, dict)
    assert set(data) == {"code", "message", "crew", "idempotency_key"}
    assert (data["code"], data["crew"], data["idempotency_key"]) == ("invalid_json", "research", "order-0")


def test_the_python_sdk_reads_every_callback(harvest: Harvest):
    for headers, body in harvest.posts:
        event = http.from_http_event(http.HTTPMessage(headers, body), JSONFormat())
        check(event, json.loads(body))


@pytest.mark.usefixtures("with_javascript")
def test_the_javascript_sdk_reads_every_message(harvest: Harvest):
    wanted = told(harvest)
    assert {line["key"] for line in harvest.read_by_javascript} == KEYS
    for line in harvest.read_by_javascript:
        if line["key"] != "closed.failed":
            assert line["event"] == wanted[line["event"]["id"]]


@pytest.mark.usefixtures("with_javascript")
def test_the_javascript_sdk_reads_every_callback(harvest: Harvest):
    wanted = told(harvest)
    events = [line["event"] for line in harvest.posted_to_javascript]
    assert {event["id"] for event in events} == set(wanted)
    for event in events:
        assert event == wanted[event["id"]]


def test_what_was_no_ascii_has_come_through(harvest: Harvest):
    for event in told(harvest).values():
        assert event["data"]["meta"] == META
