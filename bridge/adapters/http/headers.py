"""Request headers: bearer token, keys, preferred wait, trace context, attributes of CloudEvents, caller."""

import re
from urllib.parse import unquote

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from bridge.adapters.http import problems
from bridge.core.addresses import client_network
from bridge.core.http.forwarded import Network, forwarded_caller
from bridge.core.runs.request import parse_traceparent

Headers = CIMultiDictProxy[str]

IDEMPOTENCY_KEY = "Idempotency-Key"
TRUSTED_PROXIES = web.AppKey("TRUSTED_PROXIES", tuple[Network, ...])
"""The networks whose `X-Forwarded-For` counts; set by the server."""
MAX_WAIT = 60.0  # seconds; many proxies close silent connections soon after

_FORWARDED_FOR = "X-Forwarded-For"
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_WAIT = re.compile(r'wait\s*=\s*(?:([0-9]{1,9})|"([0-9]{1,9})")\s*(?:;.*)?', re.IGNORECASE)


def idempotency_key(headers: Headers) -> str | None:
    """Return the idempotency key, quoted (as the IETF draft specifies) or not (as most clients send it).

    Raise `Problem` if the quotes do not match or there is more than one key.
    """
    keys = headers.getall(IDEMPOTENCY_KEY, [])
    if len(keys) > 1:
        raise problems.invalid_parameter(IDEMPOTENCY_KEY, "must be given only once")
    if not keys:
        return None
    if not keys[0].startswith('"'):
        return keys[0]
    quoted = _QUOTED.fullmatch(keys[0])
    if quoted is None:
        raise problems.invalid_parameter(IDEMPOTENCY_KEY, "the quotation marks do not match")
    return re.sub(r"\\(.)", r"\1", quoted[1])


def preferred_wait(headers: Headers) -> float:
    """Return how many seconds the client wants to wait for the run's end (`Prefer: wait=30`, RFC 7240); 0: not at all.

    A preference is optional by definition: a malformed one is ignored.
    """
    preferences = ",".join(headers.getall("Prefer", [])).split(",")
    waits = (_WAIT.fullmatch(preference.strip()) for preference in preferences)
    first = next((wait for wait in waits if wait is not None), None)
    return 0.0 if first is None else min(float(first[1] or first[2]), MAX_WAIT)


def traceparent(headers: Headers) -> str | None:
    """Return the W3C trace context; None if it is missing or malformed."""
    return parse_traceparent(headers.get("traceparent"))


def cloudevents_attributes(headers: Headers) -> dict[str, str]:
    """Return the headers of a CloudEvent in binary mode, decoded as its HTTP binding specifies."""
    return {name: unquote(value) for name, value in headers.items() if name.lower().startswith("ce-")}


def caller_address(request: web.BaseRequest) -> str:
    """Return the key for limits per caller: the address of the connection, or the one that a trusted proxy reports."""
    trusted = request.app[TRUSTED_PROXIES] if isinstance(request, web.Request) else ()
    return client_network(forwarded_caller(request.remote or "", request.headers.getall(_FORWARDED_FOR, []), trusted))


def bearer_token(headers: Headers) -> str | None:
    """Return the bearer token; None if there is none or more than one."""
    values = headers.getall(hdrs.AUTHORIZATION, [])
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return token.strip() or None if scheme.lower() == "bearer" else None
