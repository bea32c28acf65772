"""The crew API's webhooks over HTTP: no token of a client, any content, an answer at once."""

import pytest

from bridge.core.hints import Kind
from tests.http_client import problem, serving


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_known_path_takes_a_webhook_without_a_client(kind: Kind):
    async with serving() as bridge:
        response = await bridge.post(f"/amp/known/{kind}", {"kickoff_id": "k-1"}, name=None)
        assert (response.status, bridge.others.hints) == (204, [("known", kind, {"kickoff_id": "k-1"})])


@pytest.mark.parametrize("path", ["/amp/forged/crew", "/amp/known/other", "/amp/known", "/amp/known/crew/more"])
async def test_any_other_path_does_not_exist(path: str):
    async with serving() as bridge:
        await problem(await bridge.post(path, {}, name=None), 404, "not_found")
        assert bridge.others.hints == []


async def test_content_that_cannot_be_read_is_a_hint_all_the_same():
    async with serving() as bridge:
        response = await bridge.http.post(bridge.url("/amp/known/crew"), data=b"\xff{")
        assert (response.status, bridge.others.hints) == (204, [("known", Kind.CREW, None)])
