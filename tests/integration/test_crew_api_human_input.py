"""Humans' answers over real HTTP: where they go, what goes with them, and what is known of those that went wrong."""

import json

import pytest

from bridge.core.crew.responses import CrewUnavailable, InDoubt, NotStarted, Refused, Resumed
from tests.integration.test_crew_api import OK, TOKEN, Api, api, closed_port, http, raw_server

__all__ = ["api"]  # a fixture

BODY = {"executionId": "k-1", "humanFeedback": "Approved."}
CALLBACK = "/human_feedback_requests/q-1/respond?token=secret-of-the-callback"
ELSEWHERE = "https://crew.example.com"


async def test_an_answer_goes_to_the_crew_with_its_token_on_a_fresh_connection(api: Api):
    async with raw_server(http("200 OK", OK)) as crew:
        bridge = await api(crew.url)
        assert [await bridge.resume(BODY), await bridge.resume(BODY)] == [Resumed("k-1")] * 2
        head, _, body = crew.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /resume HTTP/1.1")
        assert f"Authorization: Bearer {TOKEN}".encode() in head
        assert (json.loads(body), crew.connections) == (BODY, 2)


async def test_an_answer_that_never_left_is_told_from_one_in_doubt(api: Api):
    nobody = await api(f"http://127.0.0.1:{await closed_port()}")
    assert isinstance(await nobody.resume(BODY), NotStarted)
    async with raw_server(b"") as crew:  # reads it, then hangs up
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
async def test_what_the_crew_says_is_one_post_whatever_it_is(api: Api, status: str, kind: type):
    async with raw_server(http(status, b"{}", "Location: /elsewhere")) as crew:
        assert isinstance(await (await api(crew.url)).resume(BODY), kind)
        assert len(crew.requests) == 1


async def test_a_flows_answer_goes_to_its_address_without_our_token(api: Api):
    async with raw_server(http("200 OK", b"{}")) as crew:
        assert await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved") == Resumed()
        head, _, body = crew.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(f"POST {CALLBACK} HTTP/1.1".encode())
        assert b"authorization" not in head.lower()
        assert json.loads(body) == {"feedback": "approved", "source": "kickoff-bridge"}


async def test_a_flows_answer_follows_no_redirect(api: Api):
    async with raw_server(http("302 Found", b"", "Location: /elsewhere")) as crew:
        assert await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved") == Refused("HTTP 302")
        assert len(crew.requests) == 1


async def test_a_flows_answer_never_goes_into_a_private_network_but_to_the_crews_own_host(api: Api):
    """The address came from outside; our network is not for it to reach."""
    async with raw_server(http("200 OK", b"{}")) as inside:
        answer = await (await api(ELSEWHERE)).answer_flow(inside.url + CALLBACK, "approved")
        assert answer == Refused("address not permitted")
        assert inside.connections == 0


async def test_no_answer_repeats_the_secret_address(api: Api):
    said = [await (await api(ELSEWHERE)).answer_flow(f"http://127.0.0.1:{await closed_port()}{CALLBACK}", "approved")]
    async with raw_server(http("400 Bad Request", f'{{"detail": "{CALLBACK}"}}'.encode())) as crew:
        said.append(await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved"))
    async with raw_server(b"HTTP/1.1 nonsense\r\n\r\n") as crew:
        said.append(await (await api(crew.url)).answer_flow(crew.url + CALLBACK, "approved"))
    assert "secret-of-the-callback" not in repr(said)
