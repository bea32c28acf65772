"""Messages of the bridge, property by property, as a client of the broker receives them."""

import json
from typing import Any
from uuid import UUID

from aio_pika.abc import AbstractIncomingMessage

from tests.system.interop.environment import META, TRACE, Results
from tests.system.interop.test_cloudevents import read

MEMBERS = {
    *("run_id", "crew", "kickoff_id", "state", "result", "result_json", "error", "meta", "idempotency_key"),
    *("usage", "progress", "tasks", "accepted_at", "started_at", "finished_at", "polls"),
}
ATTRIBUTES = {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}


def data_of(message: AbstractIncomingMessage) -> dict[str, Any]:
    data = read(message).get_data()
    assert isinstance(data, dict)
    return data


def test_the_end_of_a_run_has_every_property(results: Results):
    message = results.message("research.succeeded")
    data = data_of(message)
    assert message.exchange is not None
    assert message.exchange.endswith(".results")
    assert message.delivery_mode == 2
    assert message.type == "run.succeeded"
    assert message.correlation_id == "shop/1"
    own = {name: value for name, value in message.headers.items() if not name.startswith("cloudEvents_")}
    assert own == {
        "run_id": data["run_id"],
        "kickoff_id": data["kickoff_id"],
        "crew": "research",
        "traceparent": TRACE,
    }
    assert all((data["run_id"], data["kickoff_id"]))
    # Properties that producers set and the broker acts on are not set by the bridge.
    assert (message.reply_to, message.expiration, message.user_id, message.priority) == (None, None, None, 0)


def test_a_run_that_never_started_has_no_kickoff_id_and_its_key_as_correlation_id(results: Results):
    message = results.message("closed.failed")
    data = data_of(message)
    own = {name for name in message.headers if not name.startswith("cloudEvents_")}
    assert (own, data["kickoff_id"]) == ({"run_id", "crew"}, None)
    assert message.correlation_id == "order-2"
    assert (data["state"], data["error"]["code"]) == ("failed", "refused")
    assert set(data["error"]) == {"code", "message"}


def test_every_message_is_its_event(results: Results):
    """Id, type, and time are also in the properties; replies equal the messages of the exchange."""
    for message in (*results.messages, *results.replies):
        event = read(message)
        assert (message.message_id, message.type) == (event.get_id(), event.get_type())
        time = event.get_time()
        assert time is not None
        assert message.timestamp is not None
        assert int(message.timestamp.timestamp()) == int(time.timestamp())
        assert message.delivery_mode == 2
    published = {message.message_id: message for message in results.messages}
    for reply in results.replies:
        if reply.type != "request.rejected":
            message = published[reply.message_id]
            assert (reply.body, reply.properties) == (message.body, message.properties)


def test_the_content_type_shows_the_mode(structured: Results, binary: Results):
    assert {message.content_type for message in (*structured.messages, *structured.replies)} == {
        "application/cloudevents+json"
    }
    assert {message.content_type for message in (*binary.messages, *binary.replies)} == {"application/json"}


def test_the_event_has_every_member(structured: Results):
    for message in structured.messages:
        event = json.loads(message.body)
        assert set(event) == ATTRIBUTES
        assert set(event["data"]) == MEMBERS
        assert (event["specversion"], event["datacontenttype"]) == ("1.0", "application/json")
        assert event["source"] == f"/crews/{event['data']['crew']}"
        assert event["subject"] == event["data"]["run_id"]
        assert UUID(event["subject"]).version == 7
        assert event["time"].endswith("Z")


def test_the_end_contains_the_whole_run(structured: Results):
    data = data_of(structured.message("research.succeeded"))
    assert (data["state"], data["error"], data["meta"]) == ("succeeded", None, META)
    assert (data["crew"], data["idempotency_key"]) == ("research", "order-1")
    assert "Füchse" in data["result"]
    assert data["polls"] >= 1
    assert data["accepted_at"] <= data["started_at"] <= data["finished_at"]


def test_every_destination_receives_the_same_bytes(structured: Results):
    published = {message.message_id: message.body for message in structured.messages}
    assert len(structured.posts) >= 3
    for headers, body in structured.posts:
        assert headers["content-type"] == "application/cloudevents+json"
        assert body == published[headers["webhook-id"]]


def test_a_redelivery_is_identical_to_the_byte(results: Results):
    first, again = [message for message in results.messages if message.routing_key == "research.succeeded"]
    assert (first.body, first.properties) == (again.body, again.properties)
    one, two = [body for headers, body in results.posts if headers["webhook-id"] == first.message_id]
    assert one == two
