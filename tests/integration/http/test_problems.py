"""Every way in which a request can be wrong is told as a problem, and none tells more than it should."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from tests.http_client import BODY, STORE_AWAY, Bridge, bearer, problem, serving

JSON = {"Content-Type": "application/json", **bearer("submitter")}


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving() as served:
        yield served


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"crew":NaN}',
        b'{"a":1,"a":2}',
        b'{"\\ud800":1,"\\ud800":2}',
        b'{"a":' * 70 + b"1" + b"}" * 70,
    ],
)
async def test_bad_json(bridge: Bridge, body: bytes) -> None:
    response = await bridge.http.post(bridge.url("/v1/runs"), data=body, headers=JSON)
    await problem(response, 400, "invalid_json")


async def test_json_of_another_shape(bridge: Bridge) -> None:
    response = await bridge.http.post(bridge.url("/v1/runs"), data=b"[]", headers=JSON)
    await problem(response, 422, "invalid_request")


async def test_a_wrong_field_is_pointed_at(bridge: Bridge) -> None:
    told = await problem(await bridge.submit({**BODY, "deadline": "soon"}), 422, "invalid_request")
    assert told["field"] == "deadline"
    assert told["errors"][0]["pointer"] == "/deadline"


async def test_a_problem_does_not_quote_without_end(bridge: Bridge) -> None:
    """A field's name may be as long as a body; an answer may not."""
    told = await problem(await bridge.submit({**BODY, "x" * 100_000: 1}), 422, "invalid_request")
    assert len(str(told)) < 5000


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_what_is_not_json_is_415(bridge: Bridge, media_type: str) -> None:
    """A web page can send a form to any address, this machine's too, but it cannot send JSON unasked."""
    headers = {**bearer("submitter"), "Content-Type": media_type}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=b"{}", headers=headers)
    await problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/vnd.orders+json"])
async def test_json_by_its_other_names(bridge: Bridge, media_type: str) -> None:
    headers = {**bearer("submitter"), "Content-Type": media_type}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=b'{"crew":"research"}', headers=headers)
    assert response.status == 202


async def test_no_such_route(bridge: Bridge) -> None:
    await problem(await bridge.get("/v2/runs"), 404, "not_found")


async def test_no_such_method(bridge: Bridge) -> None:
    response = await bridge.http.delete(bridge.url("/v1/runs"), headers=bearer("operator"))
    await problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize("path", ["/v1/runs", "/nowhere"])
async def test_an_expectation_that_nobody_meets(bridge: Bridge, path: str) -> None:
    """aiohttp refuses it before any handler or middleware sees the request."""
    response = await bridge.http.post(bridge.url(path), data=b"{}", headers={**JSON, "Expect": "miracles"})
    await problem(response, 417, "expectation_failed")


async def test_a_store_that_is_away(bridge: Bridge) -> None:
    bridge.accept.fail = STORE_AWAY
    response = await bridge.submit()
    told = await problem(response, 503, "service_unavailable")
    assert response.headers["Retry-After"] == "5"
    assert "secret" not in str(told)


async def test_a_bug_is_logged_and_tells_nothing(bridge: Bridge) -> None:
    bridge.accept.fail = ZeroDivisionError("the secret is 42")
    with capture_logs() as logs:
        told = await problem(await bridge.submit(), 500, "internal")
    assert "42" not in str(told)
    [failure] = [line for line in logs if line["event"] == "item_quarantined"]
    assert isinstance(failure.pop("exc_info"), ZeroDivisionError)
    assert failure == {
        "event": "item_quarantined", "log_level": "error", "kind": "request", "method": "POST", "route": "/v1/runs"
    }  # fmt: skip
    bridge.accept.fail = None
    assert (await bridge.submit()).status == 202, "the next request is served"


async def test_requests_are_logged_without_what_they_carry(bridge: Bridge) -> None:
    """The route's template instead of the path, no query, no header."""
    with capture_logs() as logs:
        await bridge.get("/v1/runs/0192?token=hush")
        await bridge.get("/nowhere/hush")
    assert [(line["method"], line["route"], line["status"]) for line in logs if line["event"] == "http_request"] == [
        ("GET", "/v1/runs/{run_id}", 404),
        ("GET", "unknown", 404),
    ]
    assert "hush" not in str(logs)


async def test_the_server_does_not_say_what_it_is_made_of(bridge: Bridge) -> None:
    assert (await bridge.get("/healthz")).headers["Server"] == "kickoff-bridge"
