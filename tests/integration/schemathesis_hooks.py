"""Rules of `POST /v1/runs` and of retries that Schemathesis cannot know: valid requests that are refused nevertheless.

A key belongs to one content: with other content, or beside another key in the header, it is refused (`422`).
A callback URL has to be an allowed one (`422`), and only a run that has succeeded can be continued (`422`).
"""

from itertools import count
from typing import Any, cast

import schemathesis

_numbers = count(1)


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: "schemathesis.Case[Any]", kwargs: dict[str, Any]) -> None:
    """Give requests that should be accepted keys of their own, and callback URLs that are allowed.

    `Prefer` is left out, because each call would wait for the end of a run.
    """
    if case.operation.label not in {"POST /v1/runs", "POST /v1/runs/{run_id}/retry"}:
        return
    case.headers.pop("Prefer", None)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    key = f"key-{next(_numbers)}"
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = key
    if not isinstance(case.body, dict):
        return
    body = cast("dict[str, Any]", case.body)
    request: dict[str, Any] = body.get("data", body)  # of a CloudEvent, or the request itself
    if request is not body:
        body |= {"id": key, "source": "/schemathesis"}  # the key, unless the request contains one
    request.pop("restore_from", None)
    if request.get("idempotency_key") is not None:
        request["idempotency_key"] = key
    if request.get("callback_url") is not None:
        request["callback_url"] = "https://receiver.invalid/events"
