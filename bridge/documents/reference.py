"""Renders both documents as one HTML page for people: no script, no file beside it, every text escaped."""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from html import escape
from importlib import resources
from typing import Any

Node = Mapping[str, Any]
"""A part of a document."""

_STYLE = resources.files(__package__).joinpath("reference.css").read_text("utf-8")
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page, which permits its one style sheet and nothing else."""

_METHODS = ("get", "post", "put", "patch", "delete")
_CODE = re.compile(r"`([^`]+)`")
_SHOWN_AS = {
    "format": "format", "pattern": "pattern", "minimum": "at least", "maximum": "at most", "minLength": "min. length",
    "maxLength": "max. length", "minItems": "min. items", "maxItems": "max. items", "default": "default",
}  # fmt: skip
"""Keywords of a schema that are shown next to its type, and their names on the page."""


def render_reference(openapi: Node, asyncapi: Node) -> str:
    """Return the page. Its anchors are the ids of operations, `message-NAME`, `channel-NAME`, and `schema-NAME`."""
    schemas = openapi["components"]["schemas"] | asyncapi["components"]["schemas"]
    info, groups = openapi["info"], [_Group(openapi, tag) for tag in openapi["tags"]]
    return "".join((
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
        f"<title>API reference · {escape(info['title'])}</title><style>{_STYLE}</style></head>\n<body>",
        f"<header><strong>{escape(info['title'])}</strong> <span>API reference {escape(info['version'])}</span> ",
        '<span><a href="openapi.json">openapi.json</a> <a href="asyncapi.json">asyncapi.json</a></span></header>\n',
        f"{_navigation(groups, asyncapi)}\n<main><h1>API reference</h1>",
        _paragraph(info["description"]), _paragraph(asyncapi["info"]["description"]),
        *(group.section() for group in groups),
        _section("channels", "Channels", "", _channels(asyncapi)),
        _section("messages", "Messages", "", _messages(asyncapi)),
        _section("schemas", "Schemas", "", (_schema(name, schemas[name]) for name in sorted(schemas))),
        "</main></body></html>\n",
    ))  # fmt: skip


class _Group:
    """The operations of one tag of the OpenAPI document."""

    def __init__(self, openapi: Node, tag: Node) -> None:
        self._document, self.name, self._description = openapi, tag["name"], tag["description"]
        self.operations = [
            (path, method, item[method], item.get("parameters", []))
            for path, item in openapi["paths"].items()
            for method in item
            if method in _METHODS and self.name in item[method]["tags"]
        ]

    def section(self) -> str:
        """Return every operation."""
        return _section(self.name, self.name.capitalize(), self._description, map(self._operation, self.operations))

    def _operation(self, operation: tuple[str, str, Node, list[Node]]) -> str:
        path, method, described, common = operation
        open_to_all = described.get("security") == []
        parameters = [_resolved(self._document, one) for one in (*common, *described.get("parameters", []))]
        body = described.get("requestBody")
        return "".join((
            f'<article id="{described["operationId"]}"><h3><b class="{method}">{method.upper()}</b> {_path(path)}</h3>',
            _paragraph(described["summary"]), _paragraph(described.get("description", "")),
            "<p>No client token: open, or authenticated otherwise.</p>" if open_to_all else "",
            _part("Parameters", _list(map(_parameter, parameters))) if parameters else "",
            _part("Request body", self._content(body)) if body else "",
            _part("Responses", _list(self._response(code, one) for code, one in described["responses"].items())),
            "</article>\n",
        ))  # fmt: skip

    def _response(self, code: str, response: Node) -> str:
        found = _resolved(self._document, response)
        headers = [{"name": name, **_resolved(self._document, one)} for name, one in found.get("headers", {}).items()]
        return f"<b>{code}</b> {_text(found['description'])}{_list(map(_parameter, headers))}{self._content(found)}"

    def _content(self, described: Node) -> str:
        """Return the body in each of its media types."""
        return _list(
            f"<code>{escape(media_type)}</code> {_type(one['schema'])}{_examples(one)}"
            for media_type, one in described.get("content", {}).items()
        )


def _navigation(groups: Iterable[_Group], asyncapi: Node) -> str:
    lists = [
        _links(
            group.name, ((one["operationId"], f"{method.upper()} {path}") for path, method, one, _ in group.operations)
        )
        for group in groups
    ]
    lists.append(_links("channels", ((f"channel-{name}", name) for name in asyncapi["channels"])))
    lists.append(_links("messages", ((f"message-{name}", name) for name in asyncapi["components"]["messages"])))
    return f'<nav aria-label="Contents">{"".join(lists)}<p><a href="#schemas">Schemas</a></p></nav>'


def _links(name: str, links: Iterable[tuple[str, str]]) -> str:
    items = _list(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text in links)
    return f'<p><a href="#{name}">{name.capitalize()}</a></p>{items}'


def _channels(asyncapi: Node) -> Iterator[str]:
    """Yield each channel with what the bridge does there."""
    for name, channel in asyncapi["channels"].items():
        operations = [
            f"The bridge <b>{escape(operation['action'])}s</b>. {_text(operation.get('summary', ''))}"
            for operation in asyncapi["operations"].values()
            if _name(operation["channel"]) == name
        ]
        messages = ", ".join(f'<a href="#message-{one}"><code>{one}</code></a>' for one in channel["messages"])
        address = channel["address"]
        yield "".join((
            f'<article id="channel-{name}"><h3>{escape(name)}</h3>{_paragraph(channel["title"])}',
            f"<p>Address: {_path(address)}</p>" if address else "", _list(operations),
            f"<p>Messages: {messages}</p></article>\n",
        ))  # fmt: skip


def _messages(asyncapi: Node) -> Iterator[str]:
    for name, message in asyncapi["components"]["messages"].items():
        content_type = message.get("contentType")
        yield "".join((
            f'<article id="message-{name}"><h3>{escape(name)}</h3>{_paragraph(message["title"])}',
            f"<p>Content type: <code>{escape(content_type)}</code></p>" if content_type else "",
            _part("Headers", f"<p>{_type(message['headers'])}</p>") if "headers" in message else "",
            _part("Payload", f"<div>{_type(message['payload'])}</div>"),
            *(_examples({"example": one["payload"]}) for one in message.get("examples", [])),
            "</article>\n",
        ))  # fmt: skip


def _schema(name: str, schema: Node) -> str:
    return f'<article id="schema-{name}"><h3>{escape(name)}</h3><div>{_type(schema)}</div></article>\n'


def _parameter(parameter: Node) -> str:
    """Return a parameter, or a header of a response."""
    where = f"<i>{parameter['in']}</i> " if "in" in parameter else ""
    required = "<em>required</em> " if parameter.get("required") else ""
    description = _text(parameter.get("description", ""))
    name = f"<code>{escape(parameter['name'])}</code>"
    return f"{name} {where}{required}{_type(parameter['schema'])} {description}{_examples(parameter)}"


def _type(schema: Node | bool) -> str:  # noqa: FBT001 - a schema of JSON Schema can be one
    """Return what a schema permits, in one line, followed by its members and alternatives."""
    if isinstance(schema, bool) or not schema:
        return "anything" if schema is not False else "nothing"
    if "$ref" in schema:
        reference = f'<a href="#schema-{_name(schema)}">{_name(schema)}</a>'
        return f"{reference} {_text(schema.get('description', ''))}".rstrip()
    words = [" or ".join(map(str, kinds)) if isinstance(kinds := schema.get("type", ""), list) else str(kinds)]
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    words += [", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)]
    words += [
        f"{shown} <code>{escape(_value(schema[keyword]))}</code>"
        for keyword, shown in _SHOWN_AS.items()
        if keyword in schema
    ]
    kind = f"<i>{'; '.join(filter(None, words))}</i>" if any(words) else ""
    return " ".join(filter(None, (kind, _text(schema.get("description", ""))))) + "".join(_parts_of(schema))


def _parts_of(schema: Node) -> Iterator[str]:
    """Yield the members, items, and alternatives of a schema."""
    required = schema.get("required", [])
    members = schema.get("properties", {})
    yield _list(
        f"<code>{escape(name)}</code> {'<em>required</em> ' if name in required else ''}{_type(member)}"
        for name, member in members.items()
    )
    if alone := [name for name in required if name not in members]:
        yield f" with {', '.join(f'<code>{escape(name)}</code>' for name in alone)}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield _list([f"any other name: {_type(schema['additionalProperties'])}"])
    if "items" in schema:
        yield f" of {_type(schema['items'])}"
    for keyword, title in (
        ("prefixItems", "in this order"),
        ("allOf", "all of"),
        ("oneOf", "one of"),
        ("anyOf", "any of"),
    ):
        if keyword in schema:
            yield f" {title}:{_list(map(_type, schema[keyword]))}"


def _examples(described: Node) -> str:
    return f'<pre tabindex="0">{escape(_value(described["example"]))}</pre>' if "example" in described else ""


def _value(value: Any) -> str:
    """Return a text as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _section(anchor: str, title: str, description: str, articles: Iterable[str]) -> str:
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{_paragraph(description)}{"".join(articles)}</section>\n'


def _part(title: str, content: str) -> str:
    return f"<h4>{title}</h4>{content}"


def _list(items: Iterable[str]) -> str:
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{listed}</ul>" if listed else ""


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>" if text else ""


def _text(text: str) -> str:
    """Return a text of a document as HTML: escaped, with `code` marked as such."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _path(path: str) -> str:
    return f"<code>{escape(path)}</code>"


def _name(reference: Node) -> str:
    """Return the last part of a reference, the name of what it refers to."""
    return str(reference["$ref"]).rpartition("/")[2]


def _resolved(document: Node, node: Node) -> Node:
    """Return what a reference of a document refers to, or a node that is no reference."""
    if "$ref" not in node:
        return node
    found = document
    for name in node["$ref"].split("/")[1:]:
        found = found[name]
    return found
