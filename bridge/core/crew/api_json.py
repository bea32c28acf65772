"""Parse the JSON of the crew API, in responses and webhooks, leniently: an invalid value is dropped alone.

NaN, Infinity, and numbers out of range become null; bytes that are not UTF-8 are replaced; of a repeated key, the last
value counts. Lone surrogates stay, for `results.clean` to replace. The caller bounds the size of the body; density and
nesting are bounded here.
"""

import json
from typing import Any

from bridge.core.json import MAX_DEPTH, deeper_than, too_dense
from bridge.core.numbers import json_float, json_int

MAX_CONTAINERS = 200_000  # arrays and objects in a body that contains little else; more would block the event loop
_ENVELOPE_LEVELS = 3  # an envelope, its events, their data: a member nested too deep is dropped alone

# built once, because building it costs as much as decoding
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=json_float, parse_int=json_int)


def read_json(body: bytes) -> Any:
    """Parse any JSON value. Raise `ValueError` for invalid JSON, or if it is nested too deep or too dense to parse."""
    if too_dense(body, MAX_CONTAINERS):
        raise ValueError("little but brackets")
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_webhook(body: bytes, *, enveloped: bool = True) -> tuple[Any, bool]:
    """Parse a webhook into content that can be stored and parsed again; return whether it is complete, as well.

    Members that are nested too deep become null, and so does an invalid body. Without an envelope, a member of the body
    is kept completely or not at all, because it may be a result.
    """
    try:
        content = read_json(body)
    except ValueError:
        return None, False
    kept = _pruned(content, _ENVELOPE_LEVELS if enveloped else 1)
    return kept, kept is content


def _pruned(value: Any, levels: int, max_depth: int = MAX_DEPTH) -> Any:
    """Drop what is nested too deep, within the first `levels`; return the same object if there is nothing to drop."""
    if not deeper_than(max_depth, value):
        return value
    if levels and isinstance(value, dict):
        return {name: _pruned(item, levels - 1, max_depth - 1) for name, item in value.items()}
    return [_pruned(item, levels - 1, max_depth - 1) for item in value] if levels and isinstance(value, list) else None
