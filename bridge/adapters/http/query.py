"""Query parameters of lists: each at most once, none unknown, every value validated. Errors are a `Problem`."""

import re
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from aiohttp import web

from bridge.adapters.http import problems
from bridge.core.runs.model import CREW_NAME

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

Choice = TypeVar("Choice", bound=StrEnum)


def read_parameters(request: web.Request, allowed: Collection[str]) -> dict[str, str]:
    """Return the parameters; refuse repeated ones, and unknown ones, because a misspelled filter would match all."""
    for name in request.query:
        if name not in allowed:
            allowed_names = ", ".join(sorted(allowed)) or "none"
            raise problems.invalid_parameter(name, f"unknown parameter; allowed: {allowed_names}")
        if len(request.query.getall(name)) > 1:
            raise problems.invalid_parameter(name, "must be given only once")
    return dict(request.query)


def timestamp(name: str, text: object) -> float | None:
    """Return the time in seconds since the epoch."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text) if isinstance(text, str) else None
        if parsed is not None and parsed.tzinfo is not None:
            return parsed.timestamp()
    except (ValueError, OverflowError):
        pass
    raise problems.invalid_parameter(name, "must be an RFC 3339 time such as 2026-11-24T08:00:00Z")


def choice(name: str, kind: type[Choice], text: str | None) -> Choice | None:
    """Return the member of `kind` that the text names."""
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise problems.invalid_parameter(name, f"must be one of {', '.join(kind)}") from None


def crew(text: str | None) -> str | None:
    """Return a well-formed crew name, whether the crew exists or not."""
    if text is not None and not CREW_NAME.fullmatch(text):
        raise problems.invalid_parameter("crew", "must be a crew name")
    return text


def limit(text: str | None) -> int:
    """Return the page size."""
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise problems.invalid_parameter("limit", f"must be an integer from 1 to {MAX_LIMIT}")
    return int(text)
