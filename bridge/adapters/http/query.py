"""Query parameters of lists: each at most once, none unknown, every value validated. Errors are a `Problem`."""

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Client
from bridge.core.runs.model import CREW_NAME, State
from bridge.ports.queries import RunFilter

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
RUN_FILTERS = frozenset(
    {"state", "crew", "idempotency_key", "kickoff_id", "correlation_id", "meta.NAME", "error", "since", "until"}
)
"""The parameters that select runs, in a query or in the `filter` of a body."""
_TEXT = r"[^\0\ud800-\udfff]+"  # what every database stores

Choice = TypeVar("Choice", bound=StrEnum)


def read_parameters(request: web.Request, allowed: Collection[str]) -> dict[str, str]:
    """Return the parameters; refuse repeated ones, and unknown ones, because a misspelled filter would match all."""
    check_names(request.query, allowed)
    for name in request.query:
        if len(request.query.getall(name)) > 1:
            raise problems.invalid_parameter(name, "must be given only once")
    return dict(request.query)


def check_names(names: Iterable[str], allowed: Collection[str]) -> None:
    """Refuse unknown names; `meta.NAME` allows every name after `meta.`."""
    for name in names:
        if name not in allowed and not ("meta.NAME" in allowed and re.fullmatch(rf"meta\.{_TEXT}", name)):
            allowed_names = ", ".join(sorted(allowed)) or "none"
            raise problems.invalid_parameter(name, f"unknown parameter; allowed: {allowed_names}")


def run_filter(asked: Mapping[str, str], client: Client) -> RunFilter:
    """Return the filter that these parameters (`RUN_FILTERS`) describe, limited to the runs that the client may see."""
    for name, value in asked.items():
        text(name, value)
    return RunFilter(
        state=choice("state", State, asked.get("state")),
        crew=crew(asked.get("crew")),
        crews=client.crews,
        source=None if client.sees_all else client.source,
        idempotency_key=asked.get("idempotency_key"),
        kickoff_id=asked.get("kickoff_id"),
        correlation_id=asked.get("correlation_id"),
        meta={name.removeprefix("meta."): value for name, value in asked.items() if name.startswith("meta.")},
        error=asked.get("error"),
        since=timestamp("since", asked.get("since")),
        until=timestamp("until", asked.get("until")),
    )


def text(name: str, value: str | None) -> str | None:
    """Return text that every database stores and that is not empty."""
    if value is not None and not re.fullmatch(_TEXT, value):
        raise problems.invalid_parameter(name, "must be text without NUL, and not empty")
    return value


def timestamp(name: str, value: str | None) -> float | None:
    """Return the time in seconds since the epoch."""
    if value is None:
        return None
    with suppress(ValueError, OverflowError):
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is not None:
            return parsed.timestamp()
    raise problems.invalid_parameter(name, "must be an RFC 3339 time such as 2026-11-24T08:00:00Z")


def choice(name: str, kind: type[Choice], value: str | None) -> Choice | None:
    """Return the member of `kind` that the value names."""
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise problems.invalid_parameter(name, f"must be one of {', '.join(kind)}") from None


def crew(value: str | None) -> str | None:
    """Return a well-formed crew name, whether the crew exists or not."""
    if value is not None and not CREW_NAME.fullmatch(value):
        raise problems.invalid_parameter("crew", "must be a crew name")
    return value


def limit(value: str | None) -> int:
    """Return the page size."""
    if value is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise problems.invalid_parameter("limit", f"must be an integer from 1 to {MAX_LIMIT}")
    return int(value)
