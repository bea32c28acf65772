"""Faults: rules that spoil the next calls, and rates that spoil some of all calls.

A rule is a JSON object:

    {"on": "kickoff" | "status" | "inputs" | "resume" | "stop", "do": ..., "times": 1, "rate": 1}

`times` is how many calls it spoils (1 unless told, null: all until it is taken away), `rate` the share of the calls
that it meets. Rules for the same call are used up in the order in which they came. What `do` may be:

    http             answer `code` (500) with `body` (text, or JSON), `content_type`, `headers`; nothing is done
    garbage          answer 200 with a page of HTML; nothing is done
    slow_503         answer 503 after `seconds`; nothing is done
    delay            do the work, then let the caller wait for `seconds`
    slow             do the work, then answer one byte in `seconds` (1)
    never            do the work, then leave the caller without an answer until it leaves
    hang_up_before   close the connection; the call leaves no trace
    hang_up_after    do the work, then close the connection without an answer
    reset_before     reset the connection; the call leaves no trace
    reset_during     reset the connection before the body is read; the call is seen, nothing is done
    reset_after      do the work, then reset the connection without an answer
    truncated        do the work, then answer with the first half of the JSON as if it were all
    cut_off          do the work, then close the connection in the middle of the body
    huge             do the work, then answer with `bytes` (20 MiB) of padding
    same_id          (kickoff) do the work, then tell the id that was told last, of another execution
    wrong_id         (kickoff) do the work, then tell `id` (a text that is no id)
    not_found        (status) know nothing of the execution
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from bridge.sandbox.rules import UNAVAILABLE, Call, Fault, FaultKind, Rule

UNTRACED: frozenset[FaultKind | None] = frozenset({"hang_up_before", "reset_before"})
"""The faults of which the ledger knows nothing."""

UNTOLD: frozenset[FaultKind | None] = frozenset({"hang_up_after", "reset_during", "reset_after", "never"})
"""The faults that leave the caller without any answer."""

NO_FAULT = Fault()
_UNAVAILABLE = Fault("http", instead=UNAVAILABLE)


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
            if rule.on == call and self._meets(rule):
                self._use(place, rule)
                return rule.fault
        return _UNAVAILABLE if self._dice.random() < self._rates.get(call, 0.0) else NO_FAULT

    def _meets(self, rule: Rule) -> bool:
        return rule.rate >= 1 or self._dice.random() < rule.rate

    def _use(self, place: int, rule: Rule) -> None:
        if rule.times is None:
            return
        left = [replace(rule, times=rule.times - 1)] if rule.times > 1 else []
        self._rules[place : place + 1] = left
