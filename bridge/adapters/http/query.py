"""Query parameters of lists: each once, none unknown, every value checked; what is wrong is a `Problem` naming it."""

import re
from collections.abc import Collection
from enum import StrEnum
from typing import TypeVar

from aiohttp import web

from bridge.adapters.http import problems
from bridge.core.runs.model import CREW_NAME

DEFAULT_LIMIT = 50
MAX_LIMIT = 200

Choice = TypeVar("Choice", bound=StrEnum)


def parameters(http: web.Request, known: Collection[str]) -> dict[str, str]:
    """Each parameter once; an unknown one is refused, since a misspelt filter would show everything."""
    for name in http.query:
        if name not in known:
            raise problems.parameter(name, f"there is no such parameter, only {', '.join(sorted(known))}")
        if len(http.query.getall(name)) > 1:
            raise problems.parameter(name, "must not be given twice")
    return dict(http.query)


def choice(name: str, kind: type[Choice], text: str | None) -> Choice | None:
    """One of the values of `kind`."""
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise problems.parameter(name, f"must be one of {', '.join(kind)}") from None


def crew(text: str | None) -> str | None:
    """A name that a crew may have, whether there is one or not."""
    if text is not None and not CREW_NAME.fullmatch(text):
        raise problems.parameter("crew", "must be the name of a crew")
    return text


def limit(text: str | None) -> int:
    """How long a page may be."""
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise problems.parameter("limit", f"must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)
