"""What goes back over the wire, as values: a code, bytes and their type."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer; `headers` come on top of the content type."""

    code: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(code: int, value: object) -> Response:
    """Answer with a JSON document."""
    return Response(code, orjson.dumps(value))


def detail(code: int, what: object) -> Response:
    """Answer with an error in the shape the crew API uses, `{"detail": sentence or list}` (crew API contract 1)."""
    return json_response(code, {"detail": what})


INTERNAL_SERVER_ERROR = Response(500, b"Internal Server Error", TEXT)
"""Plain text, not JSON, also for a body that the server could not read (crew API contract 3.3, seen live)."""

INVALID_TOKEN = detail(401, "Invalid or missing authentication credentials")
NO_TOKEN = detail(401, "Not authenticated")
