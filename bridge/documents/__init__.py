"""The OpenAPI document of the HTTP API and the AsyncAPI document of the messages; both are written by hand.

The JSON Schema of events is the part of the AsyncAPI document from which tools generate types.
"""

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import yaml

from bridge import __version__

SHARED = (
    "Text", "Value", "Json", "Run", "RunError", "Tasks", "Task", "Question", "State", "RunId", "CrewName", "Time",
    "TimeOrNull",
)  # fmt: skip
"""Schemas of the OpenAPI document that the AsyncAPI document also uses."""

_REFERENCE = re.compile(r"#/components/schemas/(\w+)")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads the documents ten times as fast


@cache
def openapi(server: str | None = None) -> dict[str, Any]:
    """Return the HTTP API (OpenAPI 3.1); `server`: its public URL, below which the paths are."""
    servers = {} if server is None else {"servers": [{"url": server}]}
    return _document("openapi.yaml") | servers


@cache
def asyncapi() -> dict[str, Any]:
    """Return the messages over RabbitMQ and to callback URLs (AsyncAPI 3)."""
    document = _document("asyncapi.yaml")
    schemas = openapi()["components"]["schemas"]
    document["components"]["schemas"] |= {name: schemas[name] for name in SHARED} | {"RoutedRequest": _routed(schemas)}
    return document


@cache
def event_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an event; its `$defs` have the names of the classes in `bridge.events`."""
    channels, components = asyncapi()["channels"], asyncapi()["components"]
    types = channels["results"]["messages"] | channels["replies"]["messages"]
    references = [components["messages"][type_]["payload"] for type_ in types]
    definitions: dict[str, Any] = {}
    _collect(references, components["schemas"], definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "description": "An event of Kickoff Bridge. Ignore members and types that you do not know.",
        **_in_definitions({"oneOf": references, "$defs": definitions}),
    }


def _collect(node: Any, schemas: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Add the schemas to which this part refers, and those to which they refer."""
    for name in _REFERENCE.findall(json.dumps(node)):
        if name not in definitions:
            definitions[name] = schemas[name]
            _collect(schemas[name], schemas, definitions)


def _in_definitions(node: dict[str, Any]) -> dict[str, Any]:
    moved: dict[str, Any] = json.loads(json.dumps(node).replace("#/components/schemas/", "#/$defs/"))
    return moved


def _routed(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a request over RabbitMQ, in which `crew` is optional: the routing key may name it."""
    return {name: value for name, value in schemas["KickoffRequest"].items() if name != "required"}


@cache
def _document(name: str) -> dict[str, Any]:
    text = resources.files(__name__).joinpath(name).read_text("utf-8")
    document: dict[str, Any] = yaml.load(text, _LOADER)  # noqa: S506 - both loaders are safe
    document["info"]["version"] = __version__
    return document
