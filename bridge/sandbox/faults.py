"""Faults: rules that spoil the next calls, and rates that spoil some of all calls.

A rule is a JSON object:

    {"on": "kickoff" | "status" | "inputs", "do": ..., "times": 1}

`times` is how many calls it spoils (1 unless told, null: all until it is taken away). Rules for the same call are used
up in the order in which they came. What `do` may be:

    http             answer `code` (500) with `body` (text, or JSON), `content_type`, `headers`; nothing is started
    garbage          answer 200 with a page of HTML; nothing is started
    delay            do the work, then let the caller wait for `seconds`
    hang_up_before   close the connection; the call leaves no trace
    hang_up_after    do the work, then close the connection without an answer
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, get_args

import orjson

from bridge.sandbox.answers import HTML, JSON, TEXT, Answer, detail

Call = Literal["kickoff", "status", "inputs"]
Deed = Literal["http", "garbage", "delay", "hang_up_before", "hang_up_after"]

_GARBAGE = Answer(200, b"<!doctype html><title>Welcome</title><p>Something stands between you and the crew.", HTML)
_COMMON = {"on", "do", "times"}
_MEMBERS: Mapping[str, set[str]] = {"http": {"code", "body", "content_type", "headers"}, "delay": {"seconds"}}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one call: an answer `instead` of the work, a wait of `seconds` after it, or a hang-up."""

    instead: Answer | None = None
    seconds: float = 0.0
    hang_up: Literal["before", "after"] | None = None


NO_FAULT = Fault()
_UNAVAILABLE = Fault(instead=detail(503, "Service Unavailable"))


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault for the next `times` calls (None: all of them); `source` is the JSON object it was read from."""

    on: Call
    fault: Fault
    times: int | None = 1
    source: Mapping[str, object] = field(default_factory=dict)


class Faults:
    """The rules in force, and the dice for the rates."""

    def __init__(self, rates: Mapping[Call, float], seed: int) -> None:
        self._rates = rates
        self._dice = Random(f"{seed}:faults")
        self._rules: list[Rule] = []

    def add(self, rules: list[Rule]) -> None:
        """Put rules behind those already there."""
        self._rules += rules

    def clear(self) -> None:
        """Take all rules away; the rates stay."""
        self._rules.clear()

    def report(self) -> dict[str, object]:
        """Return the rules in force, each with the `times` it has left."""
        return {"rules": [{**rule.source, "times": rule.times} for rule in self._rules]}

    def next_for(self, call: Call) -> Fault:
        """Return what happens to the call that has just come, and use up one time of its rule."""
        for place, rule in enumerate(self._rules):
            if rule.on == call:
                self._use(place, rule)
                return rule.fault
        return _UNAVAILABLE if self._dice.random() < self._rates.get(call, 0.0) else NO_FAULT

    def _use(self, place: int, rule: Rule) -> None:
        if rule.times is None:
            return
        left = [replace(rule, times=rule.times - 1)] if rule.times > 1 else []
        self._rules[place : place + 1] = left


def read_rules(raw: bytes) -> list[Rule]:
    """Read one rule or a list of rules from JSON; raise ValueError saying what is wrong with which."""
    value = orjson.loads(raw)
    rules = value if isinstance(value, list) else [value]
    return [_rule(rule, f"rule {place}") for place, rule in enumerate(rules, start=1)]


def _rule(source: object, name: str) -> Rule:
    if not isinstance(source, dict):
        raise ValueError(f"{name}: must be an object")  # noqa: TRY004  (a caller's mistake, like all others here)
    _known(source.get("on"), get_args(Call), f"{name}: on")
    _known(source.get("do"), get_args(Deed), f"{name}: do")
    for member in source.keys() - _COMMON - _MEMBERS.get(source["do"], set()):
        raise ValueError(f"{name}: {source['do']} has no member {member!r}")
    times = source.get("times", 1)
    if times is not None and not (type(times) is int and times >= 1):
        raise ValueError(f"{name}: times must be a whole number of at least 1, or null")
    return Rule(source["on"], _fault(source, name), times, source)


def _fault(source: Mapping[str, object], name: str) -> Fault:
    match source["do"]:
        case "http":
            return Fault(instead=_answer(source, name))
        case "garbage":
            return Fault(instead=_GARBAGE)
        case "delay":
            return Fault(seconds=_seconds(source.get("seconds"), name))
        case "hang_up_before":
            return Fault(hang_up="before")
        case _:
            return Fault(hang_up="after")


def _answer(source: Mapping[str, object], name: str) -> Answer:
    code, body, headers = source.get("code", 500), source.get("body", ""), source.get("headers", {})
    if not (type(code) is int and 200 <= code <= 599):  # noqa: PLR2004  (the final codes of HTTP)
        raise ValueError(f"{name}: code must be an HTTP code from 200 to 599")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise ValueError(f"{name}: headers must be an object of texts")
    is_text = isinstance(body, str)
    content_type = str(source.get("content_type", TEXT if is_text else JSON))
    return Answer(code, body.encode() if isinstance(body, str) else orjson.dumps(body), content_type, headers)


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: seconds must be a number of at least 0")
    return float(value)


def _known(value: object, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}")
