"""JSON from outside, read strictly, and JSON of the bridge, written canonically.

The standard parser takes NaN, repeated keys, lone surrogates, NUL and any encoding it can guess. Each of them would be
stored happily and fail much later, in another parser or database, so the listeners refuse them.
"""

import json
import re
from typing import Any, NoReturn

from bridge.core.errors import RequestRefused
from bridge.core.numbers import json_float, json_int

MAX_DEPTH = 64
MANY = 20_000  # arrays and objects, up to which it does not matter how dense they are
_DENSE = 6  # bytes of a body for each array or object; below that there is little but brackets
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # an unclosed one matches, so that this stays linear
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as written in JSON: its backslash is not itself escaped
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # or what looks like one; half of a pair may be missing
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def parse_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; raises `RequestRefused` (`invalid_json`, or `invalid_request` for JSON of another shape)."""
    value = parse(body)
    if not isinstance(value, dict):
        raise RequestRefused("invalid_request", "the body must be a JSON object")
    return value


def parse(body: bytes) -> Any:
    """Read JSON of any shape; raises `RequestRefused` (`invalid_json`)."""
    if too_dense(body):
        raise RequestRefused(
            "invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels, or consists of little but brackets"
        )
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
        )
        if deeper_than(MAX_DEPTH, value):
            raise _too_deep()
        _check_escapes(text, value)
    except UnicodeDecodeError:
        raise RequestRefused("invalid_json", "the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise RequestRefused("invalid_json", "the body holds a lone surrogate, which is no character") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise RequestRefused("invalid_json", f"the body is not JSON: {error.msg} at {where}") from None
    return value


def canonical(value: Any) -> bytes:
    """Write JSON so that equal content gives equal bytes: sorted keys, no white space, UTF-8."""
    return _CANONICAL.encode(value).encode()


def compact(value: Any) -> bytes:
    """Write JSON without white space, UTF-8; raises `UnicodeEncodeError` for a lone surrogate.

    By the standard library: faster writers refuse integers beyond 64 bits.
    """
    return _COMPACT.encode(value).encode()


def too_dense(body: bytes, many: int = MANY) -> bool:
    """Whether a body is mostly brackets: each costs a hundred times what another byte does, to parse and to walk.

    Counting takes a millisecond; strings are left out only where it matters.
    """
    most = max(many, len(body) // _DENSE)
    return _openings(body) > most and _openings(_STRINGS.sub(b"", body)) > most


def _openings(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def deeper_than(levels: int, value: Any) -> bool:
    """Whether arrays and objects are nested deeper than so many levels; level by level, so without recursion."""
    level = [value]
    for _ in range(levels):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _check_escapes(text: str, value: Any) -> None:
    """Escapes are the only way by which valid UTF-8 can hold what is no character, or NUL."""
    if _SURROGATE.search(text):
        compact(value)  # fails for a lone one
    if _NUL.search(text):
        raise RequestRefused("invalid_json", "the body holds the character NUL, which many databases cannot keep")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RequestRefused("invalid_json", f"the key {key!r} appears twice in one object", key)
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise RequestRefused("invalid_json", f"{name} is not JSON")


def _finite(digits: str) -> float:
    if (number := json_float(digits)) is None:
        raise RequestRefused("invalid_json", f"{digits[:20]} is a number that no parser can hold")
    return number


def _whole(digits: str) -> int:
    if (number := json_int(digits)) is None:
        raise RequestRefused("invalid_json", "the body is not acceptable JSON: an integer has thousands of digits")
    return number


def _too_deep() -> RequestRefused:
    return RequestRefused("invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")
