"""The crew API's webhooks over HTTP: no token of a client, any content, an answer at once."""

import pytest

from bridge.core.crew.webhooks import Kind
from bridge.core.json import MAX_DEPTH
from tests.http_client import problem, serving


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_known_path_takes_a_webhook_without_a_client(kind: Kind):
    async with serving() as bridge:
        response = await bridge.post(f"/amp/known/{kind}", {"kickoff_id": "k-1"}, name=None)
        assert (response.status, bridge.others.crew_webhooks) == (204, [("known", kind, {"kickoff_id": "k-1"})])


@pytest.mark.parametrize("path", ["/amp/forged/crew", "/amp/known/other", "/amp/known", "/amp/known/crew/more"])
async def test_any_other_path_does_not_exist(path: str):
    async with serving() as bridge:
        await problem(await bridge.post(path, {}, name=None), 404, "not_found")
        assert bridge.others.crew_webhooks == []


def nested(levels: int) -> bytes:
    return b'{"x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize("content", [b"\xff{", nested(MAX_DEPTH + 1), nested(984)])
async def test_content_that_cannot_be_read_is_a_hint_all_the_same(content: bytes):
    """Of JSON nested too deep some could be read here and stored, but not read from the store."""
    async with serving() as bridge:
        response = await bridge.http.post(bridge.url("/amp/known/crew"), data=content)
        assert (response.status, bridge.others.crew_webhooks) == (204, [("known", Kind.CREW, None)])
