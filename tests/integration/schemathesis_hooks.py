"""Rules of `POST /v1/runs` that Schemathesis cannot know: requests that fit the document and are refused nevertheless.

A key belongs to one content: with other content, or beside another key in the header, it is refused (`422`).
A callback URL has to be an allowed one (`422`), and only a run that has succeeded can be continued (`422`).
"""

from itertools import count
from typing import Any

import schemathesis

_numbers = count(1)


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: "schemathesis.Case[Any]", kwargs: dict[str, Any]) -> None:
    """Give requests that should be accepted keys of their own, and callback URLs that are allowed.

    `Prefer` is left out, because each call would wait for the end of a run.
    """
    if case.operation.label != "POST /v1/runs":
        return
    case.headers.pop("Prefer", None)
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    key = f"key-{next(_numbers)}"
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = key
    if case.body.get("idempotency_key") is not None:
        case.body["idempotency_key"] = key
    for request in (case.body, case.body.get("data")):
        if isinstance(request, dict):
            request.pop("restore_from", None)
    if case.body.get("callback_url") is not None:
        case.body["callback_url"] = "https://receiver.invalid/events"
