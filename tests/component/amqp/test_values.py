"""Headers of every type that AMQP knows come out of a refused message as they went in; nothing of them can raise."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pamqp.header import ContentHeader

from bridge.adapters.amqp.messages import MessageRules, read_refused
from bridge.adapters.amqp.outbound import to_message
from bridge.adapters.amqp.values import ExactMessage, pack, unpack
from bridge.core.delivery.cloudevents import dead_letter
from bridge.core.errors import RequestRefused
from tests.component.amqp.test_messages import message
from tests.fakes import NOW

RULES = MessageRules("kickoff.requests", 1000, ())
MAX_FRAME = 128 * 1024

HEADERS: dict[str, Any] = {
    "double": 0.1,
    "too large for a single": 1e300,
    "too small for a single": 5e-324,
    "negative": -1e308,
    "infinite": math.inf,
    "int64": 2**63 - 1,
    "least int64": -(2**63),
    "byte": -128,
    "short": 40_000,
    "bool": True,
    "text": "\u00e9",
    "nul": "a\0b",
    "no text": b"\xff\xfe",
    "bytes": bytearray(b"\0\xff"),
    "time": datetime(2026, 11, 30, tzinfo=UTC),
    "decimal": Decimal("-1.50"),
    "none": None,
    "table": {"deep": {"double": 1e300, "list": [1, 2.5, None, {"b": b"\xff"}]}},
    "list": [0.1, "x", [True]],
}


def came_out(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers of the dead letter on the wire, after they were in the store."""
    refused = read_refused(message(b"{", headers=headers), RULES, RequestRefused("invalid_json", "no"))
    stored = json.loads(json.dumps(dict(refused.headers), allow_nan=False))
    sent = to_message(dead_letter("e-1", refused.body, None, stored, NOW), "structured")
    raw = ContentHeader(properties=sent.properties, body_size=len(sent.body)).marshal()
    assert len(raw) < MAX_FRAME
    received = ContentHeader()
    received.unmarshal(raw)
    return {name: value for name, value in (received.properties.headers or {}).items() if name in headers}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_a_refused_message_is_unchanged(name: str) -> None:
    """Each double was rounded to a single; one of 1e300 ended the publisher, and the next process as well."""
    assert came_out({name: HEADERS[name]}) == {name: HEADERS[name]}


def test_all_of_them_together() -> None:
    assert came_out(HEADERS) == HEADERS


def test_nan_stays_what_it_is() -> None:
    assert math.isnan(came_out({"nan": math.nan})["nan"])


@pytest.mark.parametrize("value", [2**63, 10**400, Decimal("1e300"), Decimal("NaN"), object(), {"n" * 256: 1}])
def test_what_amqp_cannot_hold_is_left_out(value: Any) -> None:
    assert came_out({"odd": value, "kept": 1}) == {"kept": 1}


def test_what_is_nested_too_deeply_to_be_encoded_is_left_out() -> None:
    deep: Any = None
    for _ in range(5000):
        deep = [deep]
    assert came_out({"deep": deep, "kept": 1}) == {"kept": 1}


def test_the_order_of_headers_is_kept() -> None:
    assert list(unpack(pack({"z": 1, "a": 2}))) == ["z", "a"]


def test_a_message_encodes_its_other_properties_as_the_library_does() -> None:
    sent = ExactMessage(b"x", headers={"share": 0.1}, message_id="m", priority=3, content_type="text/plain")
    raw = ContentHeader(properties=sent.properties, body_size=1).marshal()
    received = ContentHeader()
    received.unmarshal(raw)
    known = received.properties
    assert (known.message_id, known.priority, known.content_type) == ("m", 3, "text/plain")
    assert known.headers == {"share": 0.1}
