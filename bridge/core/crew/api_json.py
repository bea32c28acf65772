"""Read the JSON that the crew API sends, in responses and in webhooks: an odd value costs only itself.

NaN, Infinity, and numbers too large to hold read as null; bytes that are not UTF-8 are replaced; of a repeated key, the
last value counts. Lone surrogates stay for the reader of a text to replace. Size is bounded by the reader of the body,
density and nesting here.
"""

import json
from typing import Any

from bridge.core.json import MAX_DEPTH, deeper_than, too_dense
from bridge.core.numbers import json_float, json_int

MOST_DENSE = 200_000  # arrays and objects in a body that is little else; more would stall every other run
_ENVELOPE = 3  # levels at which what is nested too deep is dropped alone: an envelope, its events, their data

# made once: that costs as much as reading
_JSON = json.JSONDecoder(parse_constant=lambda _: None, parse_float=json_float, parse_int=json_int)


def read_json(body: bytes) -> Any:
    """Return any JSON value; raise `ValueError` for what is not JSON, is nested too deep to parse, or is too dense."""
    if too_dense(body, MOST_DENSE):
        raise ValueError("little but brackets")
    try:
        return _JSON.decode(body.decode(json.detect_encoding(body), "replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_webhook(body: bytes, *, enveloped: bool = True) -> tuple[Any, bool]:
    """Return the content of a webhook, fit to be stored and read again, and whether that is all of it.

    Members that are nested too deep read as null, and so does a body that cannot be read. Without an envelope, a member
    of the body is kept whole or not at all: it may be a result.
    """
    try:
        content = read_json(body)
    except ValueError:
        return None, False
    kept = _pruned(content, _ENVELOPE if enveloped else 1)
    return kept, kept is content


def _pruned(value: Any, levels: int, deepest: int = MAX_DEPTH) -> Any:
    """The same object if nothing in it is nested too deep."""
    if not deeper_than(deepest, value):
        return value
    if levels and isinstance(value, dict):
        return {name: _pruned(item, levels - 1, deepest - 1) for name, item in value.items()}
    return [_pruned(item, levels - 1, deepest - 1) for item in value] if levels and isinstance(value, list) else None
