"""Sanitize the head of an HTTP response, so that a strict parser accepts responses that break HTTP's rules.

A strict parser rejects a response for one header that is too long or repeated, and its status would be lost. Only the
headers that matter to a client are kept, in a form that every parser accepts.
"""

import re
from collections.abc import Iterator, Sequence

MAX_HEAD = 1024 * 1024  # bytes
_MAX_LINE = 64 * 1024
_MAX_VALUE = 1024  # bytes of a header that is kept

_STATUS_LINE = re.compile(rb"HTTP/(\d(?:\.\d)?)[ \t]+(\d{3})(?:[ \t].*)?\r?\n")
_END = re.compile(rb"\n\r?\n")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CLOSE = re.compile(rb"\nconnection:[^\n]*\bclose\b", re.IGNORECASE)
_KEPT = frozenset({b"content-type", b"content-encoding", b"connection", b"date", b"retry-after"})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_WITHOUT_BODY = frozenset({204, 304})


def status_code(data: bytes | bytearray) -> int | None:
    """Return the status code; None while the status line is incomplete or invalid."""
    found = _STATUS_LINE.match(data, 0, _MAX_LINE)
    return int(found[2]) if found else None


def end_of_head(data: bytes | bytearray, start: int = 0) -> int | None:
    """Return where the body begins; None while the head is incomplete. `start`: where to begin the search."""
    found = _END.search(data, start)
    return found.end() if found else None


def is_interim(status: int | None) -> bool:
    """Return whether a final response follows (after 100 Continue or 103 Early Hints)."""
    return status is not None and 100 <= status < 200 and status != 101  # noqa: PLR2004  (HTTP codes)


def announces_close(head: bytes) -> bool:
    """Return whether a sanitized head says that the connection ends with this response."""
    return head.startswith(b"HTTP/1.0") or _CLOSE.search(head) is not None


def sanitized(head: bytes) -> bytes:
    """Return the head with the kept headers and one valid framing; unchanged if it is not HTTP.

    Equal lengths count once, chunked coding overrides a length (RFC 9112, 6.3). A body of unknown length ends with the
    connection; so does unexpected data after a response without a body.
    """
    found = _STATUS_LINE.match(head)
    if found is None:
        return head
    version, status = found[1], int(found[2])
    headers = list(_headers(head[found.end() :]))
    kept = [(name, value) for name, value in headers if name in _KEPT]
    framing, valid = _framing(headers, status)
    if not valid or not version.startswith(b"1."):
        kept = [(name, value) for name, value in kept if name != b"connection"] + [(b"connection", b"close")]
    first = b"HTTP/%b %d -\r\n" % (b"1.0" if version == b"1.0" else b"1.1", status)
    return first + b"".join(b"%b: %b\r\n" % header for header in [*kept, *framing]) + b"\r\n"


def _framing(headers: Sequence[tuple[bytes, bytes]], status: int) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Return the header that delimits the body, and whether the original framing was valid."""
    lengths = {word.strip() for name, value in headers if name == b"content-length" for word in value.split(b",")}
    codings = [
        word.strip().lower() for name, value in headers if name == b"transfer-encoding" for word in value.split(b",")
    ]
    if status in _WITHOUT_BODY:
        return [], not codings and lengths <= {b"0"}
    if b"chunked" in codings:
        return [(b"transfer-encoding", b"chunked")], codings == [b"chunked"] and not lengths
    length = next(iter(lengths), b"")
    if len(lengths) == 1 and length.isdigit() and len(length) <= 15:  # noqa: PLR2004  (digits that a parser holds)
        return [(b"content-length", length)], not codings
    return [], not lengths and not codings


def _headers(lines: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers that matter, if they are valid and of acceptable length; names in lower case."""
    for line in lines.split(b"\n"):
        name, colon, value = line.partition(b":")
        name = name.strip(b" \t").lower()
        if colon and (name in _KEPT or name in _FRAMING):
            value = value.strip(b" \t\r")
            if len(value) <= _MAX_VALUE and not _CONTROL.search(value):
                yield name, value
