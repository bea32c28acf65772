"""Parse the JSON of the crew API, in responses and webhooks, leniently: an invalid value is dropped alone.

NaN and Infinity become null; a number that would be rounded becomes text, as written; bytes that are not UTF-8 are
replaced; of a repeated key, the last value counts. Lone surrogates stay, for `results.clean` to replace. The caller
bounds the size of the body; density and nesting are bounded here.
"""

import json
import re
from typing import Any

from bridge.core.json import MAX_DEPTH, deeper_than, too_dense
from bridge.core.numbers import json_float, json_int, keeps_digits

MAX_CONTAINERS = 200_000  # arrays and objects in a body that contains little else; more would block the event loop
_ENVELOPE_LEVELS = 3  # an envelope, its events, their data: a member nested too deep is dropped alone
_BEGINNING_LEVELS = 5  # the same as JSON nests them, and the inputs or the state in the data
_SPACE = re.compile(r"\s*")


def _float(digits: str) -> float | str:
    number = json_float(digits)
    return digits if number is None or not keeps_digits(number, digits) else number


def _int(digits: str) -> int | str:
    number = json_int(digits)
    return digits if number is None else number


# built once, because building it costs as much as decoding
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, parse_float=_float, parse_int=_int)


def read_json(body: bytes) -> Any:
    """Parse any JSON value. Raise `ValueError` for invalid JSON, or if it is nested too deep or too dense to parse."""
    if too_dense(body, MAX_CONTAINERS):
        raise ValueError("little but brackets")
    try:
        return _DECODER.decode(body.decode(json.detect_encoding(body), "replace"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_object(body: bytes) -> dict[str, Any] | None:
    """Parse a JSON object; return None for anything else."""
    try:
        value = read_json(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read_beginning(body: bytes) -> dict[str, Any]:
    """Return the complete members of a JSON object whose end is missing, and those of incomplete objects in it."""
    text = body.decode("utf-8", "ignore")
    found = _beginning(text, _after_space(text, 0), _BEGINNING_LEVELS)
    return found if isinstance(found, dict) else {}


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


def _beginning(text: str, at: int, levels: int) -> dict[str, Any] | list[Any] | None:
    """Parse the object or array that begins at `at`, up to the first value that is not complete."""
    opening, name, found = text[at : at + 1], "", list[tuple[str, Any]]()
    if opening not in ("{", "[") or not levels:
        return None
    separator = ","
    while separator == ",":
        at = _after_space(text, at + 1)
        try:
            if opening == "{":
                name, at = _DECODER.raw_decode(text, at)
                at = _after_space(text, _after_space(text, at) + 1)
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            if (inner := _beginning(text, at, levels - 1)) is not None:
                found.append((str(name), inner))
            break
        if end == len(text):
            break  # a number may continue
        found.append((str(name), value))
        at = _after_space(text, end)
        separator = text[at : at + 1]
    return dict(found) if opening == "{" else [value for _, value in found]


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()


def _pruned(value: Any, levels: int, max_depth: int = MAX_DEPTH) -> Any:
    """Drop what is nested too deep, within the first `levels`; return the same object if there is nothing to drop."""
    if not deeper_than(max_depth, value):
        return value
    if levels and isinstance(value, dict):
        return {name: _pruned(item, levels - 1, max_depth - 1) for name, item in value.items()}
    return [_pruned(item, levels - 1, max_depth - 1) for item in value] if levels and isinstance(value, list) else None
