"""Commands on many objects: their body selects the objects by a filter, and the response counts them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from bridge.adapters.http.body import DETAILS, read_command_body, respond
from bridge.adapters.http.problems import invalid_parameter
from bridge.adapters.http.query import check_names
from bridge.core.json import check_members


@dataclass(frozen=True, slots=True)
class Selection:
    """The body of a command on many objects: its filter, whether nothing is to be done, and its other members."""

    filter_: Mapping[str, str]
    dry_run: bool
    others: Mapping[str, Any]


async def read_selection(request: web.Request, filters: Collection[str], *others: str) -> Selection:
    """Read the body; its filter may have the names `filters` and is written to the audit log.

    Raise `Problem` or `RequestRefused`.
    """
    body = await read_command_body(request)
    check_members(body, {"filter", "dry_run", *others})
    filter_, dry_run = body.pop("filter", None), body.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise invalid_parameter("dry_run", "must be true or false")
    if not isinstance(filter_, dict) or not all(isinstance(value, str) for value in filter_.values()):
        raise invalid_parameter("filter", "must be an object whose values are strings")
    check_names(filter_, filters)
    request[DETAILS] = {"filter": filter_, "dry_run": dry_run}
    return Selection(filter_, dry_run, body)


def respond_with_counts(request: web.Request, matched: int, done: int) -> web.Response:
    """Return how many objects matched, and on how many the command acted; also for the audit log."""
    counts = {"matched": matched, "done": done}
    request[DETAILS] |= counts
    return respond(counts)
