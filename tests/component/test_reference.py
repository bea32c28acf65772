"""The rendered API reference, without a browser: complete, escaped, and nothing but itself."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest

from bridge.documents import asyncapi, openapi
from bridge.documents.reference import POLICY, render_reference


class Page(HTMLParser):
    """The anchors and links of a page, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors, self.links, self.tags = list[str](), list[str](), set[str]()
        self.open, self.unclosed = list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.anchors += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while (last := self.open.pop()) != tag:
            self.unclosed.append(last)


@pytest.fixture(scope="module")
def html() -> str:
    return render_reference(openapi(), asyncapi())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_operation_channel_message_and_schema_appears_once(page: Page) -> None:
    wanted = [
        *(
            method["operationId"]
            for item in openapi()["paths"].values()
            for method in item.values()
            if "tags" in method
        ),
        *(f"channel-{name}" for name in asyncapi()["channels"]),
        *(f"message-{name}" for name in asyncapi()["components"]["messages"]),
        *(f"schema-{name}" for name in openapi()["components"]["schemas"] | asyncapi()["components"]["schemas"]),
    ]

    assert len(wanted) > 80
    assert [name for name in wanted if page.anchors.count(name) != 1] == []


def test_every_parameter_status_and_example_appears(html: str) -> None:
    for path, item in openapi()["paths"].items():
        for method in (one for one in item.values() if "tags" in one):
            article = html.partition(f'<article id="{method["operationId"]}">')[2].partition("</article>")[0]
            assert f"<code>{path}</code>" in article
            assert [code for code in method["responses"] if f"<b>{code}</b>" not in article] == []
            names = [one["name"] for one in method.get("parameters", []) if "name" in one]
            assert [name for name in names if f"<code>{name}</code>" not in article] == []
    assert "tidal power" in html


def test_schemas_that_both_documents_define_are_the_same() -> None:
    ours, theirs = openapi()["components"]["schemas"], asyncapi()["components"]["schemas"]

    assert [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]] == []


def test_every_link_leads_somewhere_on_this_bridge(page: Page) -> None:
    anchors = {f"#{anchor}" for anchor in page.anchors}

    assert len(anchors) == len(page.anchors)
    assert set(page.links) - anchors == {"openapi.json", "asyncapi.json", "data:,"}


def test_the_page_is_well_formed_and_runs_nothing(html: str, page: Page) -> None:
    assert (page.open, page.unclosed) == ([], [])
    assert page.tags.isdisjoint({"script", "iframe", "object", "img", "form"})
    assert re.findall(r"\son\w+=|\sstyle=", html) == []


def test_the_policy_permits_the_style_of_the_page_alone(html: str) -> None:
    style = html.partition("<style>")[2].partition("</style>")[0]

    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}';" in POLICY
    assert "script-src" not in POLICY
    assert POLICY.startswith("default-src 'none';")


def test_texts_of_the_documents_do_not_become_markup() -> None:
    hostile = "<script>alert(1)</script> & `<b>`"
    described: dict[str, Any] = {
        "operationId": "one", "tags": ["runs"], "summary": hostile, "description": hostile,
        "parameters": [{"name": "<b>", "in": "query", "schema": {"enum": [hostile]}, "description": hostile}],
        "responses": {"200": {"description": hostile, "content": {"text/html": {"schema": {"const": hostile}}}}},
    }  # fmt: skip
    document = openapi() | {"paths": {"/<i>": {"get": described}}}

    assert Page(render_reference(document, asyncapi())).tags.isdisjoint({"script"})
    assert "<code>&lt;b&gt;</code>" in render_reference(document, asyncapi())
