"""Rules of `POST /v1/runs` that Schemathesis cannot know: requests that fit the document and are refused nevertheless.

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
    if case.operation.label != "POST /v1/runs":
        return
    case.headers.pop("Prefer", None)
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    key, body = f"key-{next(_numbers)}", cast("dict[str, Any]", case.body)
    request: dict[str, Any] = body.get("data", body)  # of a CloudEvent, or the request itself
    if request is not body:
        body |= {"id": key, "source": "/schemathesis"}  # the key, unless the request contains one
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = key
    request.pop("restore_from", None)
    if request.get("idempotency_key") is not None:
        request["idempotency_key"] = key
    if request.get("callback_url") is not None:
        request["callback_url"] = "https://receiver.invalid/events"
