"""Answers to questions over real HTTP: destinations, content, and the classification of failures."""

import json

import pytest

from bridge.core.crew.responses import CrewUnavailable, InDoubt, NotStarted, Refused, Resumed
from tests.integration.test_crew_api import OK, TOKEN, Api, api, closed_port, http, raw_server

__all__ = ["api"]  # a fixture

BODY = {"executionId": "k-1", "humanFeedback": "Approved."}
CALLBACK = "/human_feedback_requests/q-1/respond?token=secret-of-the-callback"
ELSEWHERE = "https://crew.example.com"


async def test_an_answer_is_sent_to_the_crew_with_its_token(api: Api):
    async with raw_server(http("200 OK", OK)) as crew:
        bridge = await api(crew.url)
        assert [await bridge.resume(BODY), await bridge.resume(BODY)] == [Resumed("k-1")] * 2
        head, _, body = crew.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /resume HTTP/1.1")
        assert f"Authorization: Bearer {TOKEN}".encode() in head
        assert json.loads(body) == BODY


async def test_an_unsent_answer_is_distinguished_from_one_in_doubt(api: Api):
    unreachable = await api(f"http://127.0.0.1:{await closed_port()}")
    assert isinstance(await unreachable.resume(BODY), NotStarted)
    async with raw_server(b"") as crew:  # reads it, then closes the connection
        assert isinstance(await (await api(crew.url)).resume(BODY), InDoubt)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("307 Temporary Redirect", Refused),
        ("401 Unauthorized", CrewUnavailable),
        ("404 Not Found", Refused),
        ("422 Unprocessable Entity", Refused),
        ("503 Service Unavailable", NotStarted),
        ("500 Internal Server Error", InDoubt),
    ],
)
async def test_an_answer_is_posted_once_whatever_the_crew_responds(api: Api, status: str, kind: type):
    async with raw_server(http(status, b"{}", "Location: /elsewhere")) as crew:
        assert isinstance(await (await api(crew.url)).resume(BODY), kind)
        assert len(crew.requests) == 1


async def test_an_answer_to_a_flow_is_sent_to_its_callback_without_the_token(api: Api):
    async with raw_server(http("200 OK", b"{}")) as crew:
        assert await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved") == Resumed()
        head, _, body = crew.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(f"POST {CALLBACK} HTTP/1.1".encode())
        assert b"authorization" not in head.lower()
        assert json.loads(body) == {"feedback": "approved", "source": "kickoff-bridge"}


async def test_an_answer_to_a_flow_follows_no_redirect(api: Api):
    async with raw_server(http("302 Found", b"", "Location: /elsewhere")) as crew:
        assert await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved") == Refused("HTTP 302")
        assert len(crew.requests) == 1


async def test_an_answer_to_a_flow_enters_a_private_network_only_for_the_host_of_the_crew(api: Api):
    """The address came from outside; it must not reach the private network."""
    async with raw_server(http("200 OK", b"{}")) as inside:
        result = await (await api(ELSEWHERE)).answer_flow(inside.url + CALLBACK, "approved")
        assert result == Refused("address not permitted")
        assert inside.connections == 0


async def test_no_response_contains_the_secret_address(api: Api):
    results = [
        await (await api(ELSEWHERE)).answer_flow(f"http://127.0.0.1:{await closed_port()}{CALLBACK}", "approved")
    ]
    async with raw_server(http("400 Bad Request", f'{{"detail": "{CALLBACK}"}}'.encode())) as crew:
        results.append(await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved"))
    async with raw_server(b"HTTP/1.1 nonsense\r\n\r\n") as crew:
        results.append(await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved"))
    assert "secret-of-the-callback" not in repr(results)
