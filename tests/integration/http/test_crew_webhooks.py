"""The crew API's webhooks over HTTP: no client token, any content, and an immediate response."""

import io
import json
from collections.abc import AsyncIterator

import pytest
import structlog

from bridge.core.crew import webhooks as crew_webhooks
from bridge.core.crew.webhooks import CrewWebhook, Kind
from bridge.core.json import MAX_DEPTH
from tests import crew_events
from tests.http_client import problem, serving

MAX_BODY = 1024 * 1024


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_webhook_is_accepted_on_a_known_path_without_a_client(kind: Kind):
    async with serving() as bridge:
        response = await bridge.post(f"/amp/known/{kind}", {"kickoff_id": "k-1"}, name=None)
        assert (response.status, bridge.others.crew_webhooks) == (204, [("known", kind, {"kickoff_id": "k-1"})])


@pytest.mark.parametrize("path", ["/amp/forged/crew", "/amp/known/other", "/amp/known", "/amp/known/crew/more"])
async def test_any_other_path_is_not_found(path: str):
    async with serving() as bridge:
        await problem(await bridge.post(path, {}, name=None), 404, "not_found")
        assert bridge.others.crew_webhooks == []


def nested(levels: int) -> bytes:
    return b'{"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize(
    ("content", "read"),
    [(b"\xff{", None), (b"", None), (nested(MAX_DEPTH + 1), {"x": None}), (nested(100_000), None)],
)
async def test_an_unreadable_webhook_is_accepted_and_logged(content: bytes, read: object):
    """JSON nested too deep could be parsed and stored, but not read from the store."""
    async with serving() as bridge:
        with structlog.testing.capture_logs() as logs:
            response = await bridge.http.post(bridge.url("/amp/known/crew"), data=content)
        assert (response.status, bridge.others.crew_webhooks) == (204, [("known", Kind.CREW, read)])
        assert [line["partly"] for line in logs if line["event"] == "crew_webhook_rejected"] == [read is not None]


RESULT = "x" * MAX_BODY
FLOW_END = crew_events.flow_with_crew("k-1")[-1]


def encoded(body: object) -> io.BytesIO:
    return io.BytesIO(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("kind", "body", "read"),
    [
        (Kind.CREW, {"kickoff_id": "k-1", "output": "the end", "result": RESULT}, {"kickoff_id": "k-1"}),
        (Kind.CREW, {"result": RESULT}, None),
        (Kind.TASK, {"name": "collect", "output_json": {"a": RESULT}}, {"name": "collect"}),
        (Kind.HUMAN, {"task_id": "t-1", "task_output": RESULT}, {"task_id": "t-1"}),
        (Kind.STREAM, {"events": [{"id": RESULT}]}, {"events": [{}]}),
    ],
)
async def test_the_beginning_of_a_webhook_that_is_too_large_is_read(kind: Kind, body: object, read: object):
    async with serving() as bridge:
        with structlog.testing.capture_logs() as logs:
            response = await bridge.http.post(bridge.url(f"/amp/known/{kind}"), data=encoded(body))
        assert (response.status, bridge.others.crew_webhooks) == (204, [("known", kind, read)])
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["crew_webhook_too_large"]


async def test_the_end_of_a_flow_is_read_even_if_its_state_is_too_large():
    event = FLOW_END | {"data": FLOW_END["data"] | {"state": {"id": "k-1", "draft": RESULT}}}
    async with serving() as bridge:
        response = await bridge.http.post(bridge.url("/amp/known/stream"), data=encoded({"events": [event]}))
        assert response.status == 204
        [(_, _, content)] = bridge.others.crew_webhooks
        assert crew_webhooks.read(Kind.STREAM, content, is_flow=True) == CrewWebhook("k-1", certain=False, ended=True)


async def test_a_webhook_without_a_length_that_is_too_large_is_accepted():
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 1000):
            yield b" " * 1001

    async with serving() as bridge:
        response = await bridge.http.post(bridge.url("/amp/known/stream"), data=chunks())
        assert (response.status, bridge.others.crew_webhooks) == (204, [("known", Kind.STREAM, None)])


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        (b"1" + b"0" * 500, 10**500),
        (b"9" * 4500, "9" * 4500),
        (b"1e999", "1e999"),
        (b"NaN", None),
        (b'"\\ud800"', "\ud800"),
        (b'"\xff"', "\N{REPLACEMENT CHARACTER}"),
        (b'1, "odd": 2', 2),
    ],
    ids=["501 digits", "4500 digits", "1e999", "NaN", "surrogate", "not UTF-8", "twice"],
)
async def test_an_invalid_value_in_a_webhook_is_dropped_alone(odd: bytes, read: object):
    async with serving() as bridge:
        response = await bridge.http.post(bridge.url("/amp/known/crew"), data=b'{"kickoff_id": "k-1", "odd": %s}' % odd)
        assert response.status == 204
        assert bridge.others.crew_webhooks == [("known", Kind.CREW, {"kickoff_id": "k-1", "odd": read})]
