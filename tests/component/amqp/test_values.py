"""AMQP headers of every type survive in dead letters unchanged, and none raises."""

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
from bridge.core.delivery.events import dead_letter
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


def published(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers of the dead letter on the wire, after storage."""
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
    """Each double was rounded to a single; one of 1e300 ended the publisher, and the next process too."""
    assert published({name: HEADERS[name]}) == {name: HEADERS[name]}


def test_all_headers_together_are_unchanged() -> None:
    assert published(HEADERS) == HEADERS


def test_nan_is_unchanged() -> None:
    assert math.isnan(published({"nan": math.nan})["nan"])


@pytest.mark.parametrize("value", [2**63, 10**400, Decimal("1e300"), Decimal("NaN"), object(), {"n" * 256: 1}])
def test_values_that_amqp_cannot_encode_are_dropped(value: Any) -> None:
    assert published({"odd": value, "kept": 1}) == {"kept": 1}


def test_values_nested_too_deep_to_encode_are_dropped() -> None:
    deep: Any = None
    for _ in range(5000):
        deep = [deep]
    assert published({"deep": deep, "kept": 1}) == {"kept": 1}


def test_the_order_of_headers_is_kept() -> None:
    assert list(unpack(pack({"z": 1, "a": 2}))) == ["z", "a"]


def test_other_properties_are_encoded_as_by_the_library() -> None:
    sent = ExactMessage(b"x", headers={"share": 0.1}, message_id="m", priority=3, content_type="text/plain")
    raw = ContentHeader(properties=sent.properties, body_size=1).marshal()
    received = ContentHeader()
    received.unmarshal(raw)
    known = received.properties
    assert (known.message_id, known.priority, known.content_type) == ("m", 3, "text/plain")
    assert known.headers == {"share": 0.1}
