"""Routing keys of events on the results exchange, from a template over the crew, the event, and members of `meta`."""

import re
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 255  # a short string on the wire
NO_VALUE = "_"
_FIELD = re.compile(r"\{(crew|event|meta\.([A-Za-z0-9_-]+))\}")
_SEPARATORS = re.compile(r"[\s.]+")  # a dot would begin another word of the key, which bindings count


def check_template(template: str) -> str:
    """Return a template unchanged; raise `ValueError`, worded for users."""
    rest = _FIELD.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError("must contain in braces only crew, event, or meta.NAME")
    if not template or not template.isprintable() or any(sign in template for sign in "*#"):
        raise ValueError("must be printable, not empty, and without * and #, which only bindings contain")
    if len(template.encode()) > MAX_BYTES:
        raise ValueError(f"must be at most {MAX_BYTES} bytes long")
    return template


def routing_key(template: str, crew: str, event: str, meta: Mapping[str, Any]) -> str:
    """Fill in a template; a value from `meta` is one word of the key, and `_` if it is missing or no scalar.

    If the key is too long for the wire, the values from `meta` are cut, so that bindings still match the other words.
    """
    own = {"crew": crew, "event": event}
    rest = _FIELD.sub(lambda field: own.get(field[1], ""), template)
    words = sum(field[2] is not None for field in _FIELD.finditer(template))
    room = max(MAX_BYTES - len(rest.encode()), 0) // max(words, 1)

    def value(field: re.Match[str]) -> str:
        return own[field[1]] if field[2] is None else _cut(_word(meta.get(field[2])), room)

    return _cut(_FIELD.sub(value, template), MAX_BYTES)


def _cut(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, str | int | float) else ""
    return _SEPARATORS.sub("_", text.strip()) or NO_VALUE
