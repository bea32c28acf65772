"""Check the members of a JSON object from outside: which are allowed, and of which type."""

from collections.abc import Collection, Mapping
from typing import Any

from bridge.core.errors import RequestRefused


def only(body: Mapping[str, Any], known: Collection[str] = ()) -> None:
    """Raise `RequestRefused` for a field that is not known: a mistyped one must not be taken for an absent one."""
    for name in body:
        if name not in known:
            raise RequestRefused("invalid_request", f"unknown field {name!r}", name)


def text(body: Mapping[str, Any], name: str) -> str | None:
    """A field that may be absent or null; raises `RequestRefused` for anything else that is no text."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestRefused("invalid_request", "must be text", name)
    return value
