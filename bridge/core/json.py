"""Parse untrusted JSON strictly, and write JSON canonically.

The standard parser accepts NaN, repeated keys, lone surrogates, NUL, and any encoding it can guess. Each of them could
be stored and would fail later, in another parser or database, so the listeners refuse them.
"""

import codecs
import json
import re
from collections.abc import Collection, ItemsView, Iterator, Mapping
from typing import Any, NoReturn

from bridge.core.errors import RequestRefused
from bridge.core.numbers import json_float, json_int, keeps_digits

MAX_DEPTH = 64
MAX_CONTAINERS = 20_000  # arrays and objects that any body may contain, however dense
_MIN_BYTES_PER_CONTAINER = 6  # of a body that contains more
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # linear, as it also matches an unclosed one
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # escaped in JSON; the backslash itself is not escaped
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # escaped; possibly half of a pair
_TEXT_COPIES = 4  # of a body: as read, as text, as stored, for the fingerprint
_VALUE_BYTES = 80  # memory of a small value or key, which can be two bytes of the body
_MARKS = (b",", b":", b"[", b"{")


class EncodedObject(Mapping[str, Any]):
    """A JSON object that is kept as text, which takes a fraction of the memory of the parsed object.

    Each access parses the text again.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    def decoded(self) -> dict[str, Any]:
        """Return the parsed object; raise `ValueError` for text that is not JSON."""
        found: dict[str, Any] = json.loads(self.text)
        return found

    def items(self) -> ItemsView[str, Any]:
        """Return the members; the text is parsed once."""
        return self.decoded().items()

    def __getitem__(self, name: str) -> Any:
        return self.decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.decoded())

    def __len__(self) -> int:
        return len(self.decoded())

    def __eq__(self, other: object) -> bool:
        return self.decoded() == (other.decoded() if isinstance(other, EncodedObject) else other)

    __hash__ = None  # type: ignore[assignment]  # unhashable, as a dict


def _plain(value: object) -> dict[str, Any]:
    if isinstance(value, EncodedObject):
        return value.decoded()
    raise TypeError(f"{type(value).__name__} is not JSON")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain)
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=_plain)


def parsed_bytes(body: bytes) -> int:
    """Estimate the memory, in bytes, that a body takes while it is parsed, stored, and fingerprinted."""
    return _TEXT_COPIES * len(body) + _VALUE_BYTES * sum(body.count(mark) for mark in _MARKS)


def encoded_bytes(value: Mapping[str, Any]) -> int:
    """Return the length of an object's JSON text, in bytes."""
    return len(value.text if isinstance(value, EncodedObject) else compact(value))


def without_mark(body: bytes) -> bytes:
    """Return a body without the UTF-8 byte order mark that it may begin with."""
    return body.removeprefix(codecs.BOM_UTF8)


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object; raises `RequestRefused` (`invalid_json`, or `invalid_request` for JSON of another shape)."""
    value = parse(body)
    if not isinstance(value, dict):
        raise RequestRefused("invalid_request", "the body must be a JSON object")
    return value


def parse(body: bytes) -> Any:
    """Parse any JSON value, which may begin with a byte order mark; raises `RequestRefused` (`invalid_json`)."""
    if too_dense(body):
        raise RequestRefused(
            "invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels, or contains little but brackets"
        )
    try:
        text = without_mark(body).decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_no_repeats, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
        )
        if deeper_than(MAX_DEPTH, value):
            raise _too_deep()
        _check_escapes(text, value)
    except UnicodeDecodeError:
        raise RequestRefused("invalid_json", "the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise RequestRefused("invalid_json", "the body contains a lone surrogate, which is not a character") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise RequestRefused("invalid_json", f"the body is not JSON: {error.msg} at {where}") from None
    return value


def check_members(body: Mapping[str, Any], known: Collection[str] = ()) -> None:
    """Raise `RequestRefused` for an unknown member, because a mistyped name must not count as absent."""
    for name in body:
        if name not in known:
            raise RequestRefused("invalid_request", f"unknown field {name!r}", name)


def text_member(body: Mapping[str, Any], name: str) -> str | None:
    """Return a text member, which may be absent or null; raises `RequestRefused` for another type."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestRefused("invalid_request", "must be a string", name)
    return value


def canonical(value: Any) -> bytes:
    """Encode JSON so that equal content has equal bytes: sorted keys, no white space, UTF-8."""
    return _CANONICAL.encode(value).encode()


def compact(value: Any) -> bytes:
    """Encode JSON without white space, in UTF-8; raises `UnicodeEncodeError` for a lone surrogate.

    Uses the standard library, because faster encoders refuse integers beyond 64 bits.
    """
    return _COMPACT.encode(value).encode()


def too_dense(body: bytes, max_containers: int = MAX_CONTAINERS) -> bool:
    """Return whether a body is mostly brackets, which cost a hundred times as much as other bytes to parse and walk.

    Counting takes about a millisecond; strings are removed only if the count exceeds the limit.
    """
    limit = max(max_containers, len(body) // _MIN_BYTES_PER_CONTAINER)
    return _opening_brackets(body) > limit and _opening_brackets(_STRINGS.sub(b"", body)) > limit


def _opening_brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def deeper_than(levels: int, value: Any) -> bool:
    """Return whether arrays and objects are nested deeper than `levels`; not recursive."""
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
    """Refuse NUL and lone surrogates, which valid UTF-8 can contain only as escapes."""
    if _SURROGATE.search(text):
        compact(value)  # raises for a lone surrogate
    if _NUL.search(text):
        raise RequestRefused("invalid_json", "the body contains the character NUL, which many databases cannot store")


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
        raise RequestRefused("invalid_json", f"{digits[:20]} is out of range")
    if not keeps_digits(number, digits):
        raise RequestRefused("invalid_json", f"{digits[:30]} has more digits than a double keeps; send it as text")
    return number


def _whole(digits: str) -> int:
    if (number := json_int(digits)) is None:
        raise RequestRefused("invalid_json", "an integer has thousands of digits")
    return number


def _too_deep() -> RequestRefused:
    return RequestRefused("invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")
