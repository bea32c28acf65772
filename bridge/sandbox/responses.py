"""Represent HTTP responses as values: a status code, a body, and its content type."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.sandbox.exact_json import to_json

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; `headers` are sent in addition to the content type."""

    code: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(code: int, value: object) -> Response:
    """Return a response with a JSON body."""
    return Response(code, to_json(value))


def detail(code: int, problem: object) -> Response:
    """Return an error in the shape of the crew API, `{"detail": sentence or list}` (crew API contract 1)."""
    return json_response(code, {"detail": problem})


INTERNAL_SERVER_ERROR = Response(500, b"Internal Server Error", TEXT)
"""Plain text, not JSON, even for a body that the server could not read (crew API contract 3.3, observed live)."""

INVALID_TOKEN = detail(401, "Invalid or missing authentication credentials")
NO_TOKEN = detail(401, "Not authenticated")
