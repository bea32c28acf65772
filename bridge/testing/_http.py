"""Call HTTP APIs with JSON from a synchronous test, without a proxy."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

_TIMEOUT = 60.0  # seconds: reached by a hang alone

_open = build_opener(ProxyHandler({})).open


def call(method: str, url: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
    """Return the status, and the body of the response: as JSON if it is, otherwise as text."""
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    data = None if body is None else json.dumps(body).encode()
    try:
        with _open(Request(url, data, headers, method=method), timeout=_TIMEOUT) as response:  # noqa: S310 - our URLs
            return response.status, _content(response)
    except HTTPError as error:
        with error:
            return error.code, _content(error)


def _content(response: Any) -> Any:
    text = response.read().decode()
    return json.loads(text) if "json" in response.headers.get("Content-Type", "") else text
