"""The OpenAPI document of the HTTP API and the AsyncAPI document of the messages; both are written by hand."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

from bridge import __version__

SHARED = ("Text", "Value", "Run", "State", "RunId", "CrewName", "Time", "TimeOrNull")
"""Schemas of the OpenAPI document that the AsyncAPI document also uses."""

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


def _routed(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a request over RabbitMQ, in which `crew` is optional: the routing key may name it."""
    return {name: value for name, value in schemas["KickoffRequest"].items() if name != "required"}


@cache
def _document(name: str) -> dict[str, Any]:
    text = resources.files(__name__).joinpath(name).read_text("utf-8")
    document: dict[str, Any] = yaml.load(text, _LOADER)  # noqa: S506 - both loaders are safe
    document["info"]["version"] = __version__
    return document
