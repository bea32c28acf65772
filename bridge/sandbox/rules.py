"""Read fault rules from JSON; `bridge.sandbox.faults` describes each kind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from bridge.sandbox.exact_json import read_json, to_json
from bridge.sandbox.responses import HTML, JSON, TEXT, Response, detail

Call = Literal["kickoff", "status", "inputs", "resume", "stop"]
FaultKind = Literal[
    "http",
    "garbage",
    "slow_503",
    "delay",
    "slow",
    "never",
    "hang_up_before",
    "hang_up_after",
    "reset_before",
    "reset_during",
    "reset_after",
    "truncated",
    "cut_off",
    "huge",
    "same_id",
    "wrong_id",
    "not_found",
]

MEBIBYTE = 1024 * 1024
UNAVAILABLE = detail(503, "Service Unavailable")
_GARBAGE = Response(200, b"<!doctype html><title>Welcome</title><p>Something stands between you and the crew.", HTML)
_NEVER_READ = Response(500, b"")

_COMMON = {"on", "do", "times", "rate", "inputs"}
_MEMBERS: Mapping[str, set[str]] = {
    "http": {"code", "body", "content_type", "headers"},
    "delay": {"seconds"},
    "slow": {"seconds"},
    "slow_503": {"seconds"},
    "huge": {"bytes"},
    "wrong_id": {"id"},
}
_ONLY_ON: Mapping[str, Call] = {"same_id": "kickoff", "wrong_id": "kickoff", "not_found": "status"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call: a `response` in place of the work, a delay of `seconds`, a `kind` for the transmission.

    `byte_interval` is the time a slow response takes per byte, `size` the padding of a huge one, `wrong_id` the value
    returned as an ID.
    """

    kind: FaultKind | None = None
    response: Response | None = None
    seconds: float = 0.0
    byte_interval: float = 1.0
    size: int = 20 * MEBIBYTE
    wrong_id: object = "../not/an id?"


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault for the next `times` calls (None: all of them); `source` is the JSON object it was read from.

    `inputs`: those that a kickoff must contain.
    """

    on: Call
    fault: Fault
    times: int | None = 1
    rate: float = 1.0
    inputs: Mapping[str, object] = field(default_factory=dict)
    source: Mapping[str, object] = field(default_factory=dict)


def read_rules(raw: bytes) -> list[Rule]:
    """Read one rule or a list of rules from JSON; raise ValueError naming the invalid rule and the reason."""
    value = read_json(raw)
    return rules_from(value if isinstance(value, list) else [value])


def rules_from(sources: Sequence[object]) -> list[Rule]:
    """Read rules from JSON values; raise ValueError naming the invalid rule and the reason."""
    return [_rule(source, f"rule {number}") for number, source in enumerate(sources, start=1)]


def _rule(source: object, name: str) -> Rule:
    if not isinstance(source, dict):
        raise ValueError(f"{name}: must be an object")  # noqa: TRY004  (a mistake of the caller, like all others here)
    _known(source.get("on"), get_args(Call), f"{name}: on")
    _known(source.get("do"), get_args(FaultKind), f"{name}: do")
    if source["on"] != _ONLY_ON.get(source["do"], source["on"]):
        raise ValueError(f"{name}: {source['do']} is only for {_ONLY_ON[source['do']]}")
    for member in source.keys() - _COMMON - _MEMBERS.get(source["do"], set()):
        raise ValueError(f"{name}: {source['do']} has no member {member!r}")
    times = source.get("times", 1)
    if times is not None and not (type(times) is int and times >= 1):
        raise ValueError(f"{name}: times must be a whole number of at least 1, or null")
    rate = _number(source.get("rate", 1), f"{name}: rate")
    if rate > 1:
        raise ValueError(f"{name}: rate must be from 0 to 1")
    inputs = source.get("inputs", {})
    if not isinstance(inputs, dict):
        raise ValueError(f"{name}: inputs must be an object")  # noqa: TRY004
    if inputs and source["on"] != "kickoff":
        raise ValueError(f"{name}: inputs is only for kickoff")
    return Rule(source["on"], _fault(source, name), times, rate, inputs, source)


def _fault(source: Mapping[str, object], name: str) -> Fault:
    match source["do"]:
        case "http":
            return Fault("http", response=_http_response(source, name))
        case "garbage":
            return Fault("garbage", response=_GARBAGE)
        case "reset_during":
            return Fault("reset_during", response=_NEVER_READ)
        case "slow_503":
            return Fault("slow_503", response=UNAVAILABLE, seconds=_number(source.get("seconds"), f"{name}: seconds"))
        case "delay":
            return Fault("delay", seconds=_number(source.get("seconds"), f"{name}: seconds"))
        case "slow":
            return Fault("slow", byte_interval=_number(source.get("seconds", 1), f"{name}: seconds"))
        case "huge":
            return Fault("huge", size=int(_number(source.get("bytes", 20 * MEBIBYTE), f"{name}: bytes")))
        case kind:
            return _plain(kind, source)


def _plain(kind: object, source: Mapping[str, object]) -> Fault:
    known: FaultKind = next(name for name in get_args(FaultKind) if name == kind)
    return Fault(known, wrong_id=source["id"]) if "id" in source else Fault(known)


def _http_response(source: Mapping[str, object], name: str) -> Response:
    code, body, headers = source.get("code", 500), source.get("body", ""), source.get("headers", {})
    if not (type(code) is int and 200 <= code <= 599):  # noqa: PLR2004  (the final codes of HTTP)
        raise ValueError(f"{name}: code must be an HTTP code from 200 to 599")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError(f"{name}: headers must be an object whose values are text")
    is_text = isinstance(body, str)
    content_type = str(source.get("content_type", TEXT if is_text else JSON))
    return Response(code, body.encode() if isinstance(body, str) else to_json(body), content_type, headers)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number of at least 0")
    return float(value)


def _known(value: object, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}")
