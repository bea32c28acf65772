"""Every invalid request is answered with a problem that reveals nothing else."""

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


async def test_another_json_type(bridge: Bridge) -> None:
    response = await bridge.http.post(bridge.url("/v1/runs"), data=b"[]", headers=JSON)
    await problem(response, 422, "invalid_request")


async def test_an_invalid_field_is_named(bridge: Bridge) -> None:
    document = await problem(await bridge.submit({**BODY, "deadline": "soon"}), 422, "invalid_request")
    assert document["field"] == "deadline"
    assert document["errors"][0]["pointer"] == "/deadline"


async def test_quotations_in_a_problem_are_limited(bridge: Bridge) -> None:
    """The name of a field may be as long as a body; a response may not."""
    document = await problem(await bridge.submit({**BODY, "x" * 100_000: 1}), 422, "invalid_request")
    assert len(str(document)) < 5000


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_a_body_that_is_not_json_is_415(bridge: Bridge, media_type: str) -> None:
    """A web page can send a form to any address, including this machine's, but not JSON without permission."""
    headers = {**bearer("submitter"), "Content-Type": media_type}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=b"{}", headers=headers)
    await problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/vnd.orders+json"])
async def test_other_json_content_types_are_accepted(bridge: Bridge, media_type: str) -> None:
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
async def test_an_unsupported_expectation(bridge: Bridge, path: str) -> None:
    """aiohttp refuses it before any handler or middleware sees the request."""
    response = await bridge.http.post(bridge.url(path), data=b"{}", headers={**JSON, "Expect": "miracles"})
    await problem(response, 417, "expectation_failed")


async def test_an_unavailable_store(bridge: Bridge) -> None:
    bridge.accept.fail = STORE_AWAY
    response = await bridge.submit()
    document = await problem(response, 503, "service_unavailable")
    assert response.headers["Retry-After"] == "5"
    assert "secret" not in str(document)


async def test_an_internal_error_is_logged_and_reveals_nothing(bridge: Bridge) -> None:
    bridge.accept.fail = ZeroDivisionError("the secret is 42")
    with capture_logs() as logs:
        document = await problem(await bridge.submit(), 500, "internal")
    assert "42" not in str(document)
    [failure] = [line for line in logs if line["event"] == "item_quarantined"]
    assert isinstance(failure.pop("exc_info"), ZeroDivisionError)
    assert failure == {
        "event": "item_quarantined", "log_level": "error", "kind": "request", "method": "POST", "route": "/v1/runs"
    }  # fmt: skip
    bridge.accept.fail = None
    assert (await bridge.submit()).status == 202, "the next request is served"


async def test_requests_are_logged_without_their_content(bridge: Bridge) -> None:
    """The route's template instead of the path, no query, no header."""
    with capture_logs() as logs:
        await bridge.get("/v1/runs/0192?token=hush")
        await bridge.get("/nowhere/hush")
    assert [
        (line["method"], line["route"], line["status"]) for line in logs if line["event"] == "http_request_completed"
    ] == [
        ("GET", "/v1/runs/{run_id}", 404),
        ("GET", "unknown", 404),
    ]
    assert "hush" not in str(logs)


async def test_the_server_header_does_not_name_the_software(bridge: Bridge) -> None:
    assert (await bridge.get("/healthz")).headers["Server"] == "kickoff-bridge"
