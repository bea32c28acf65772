"""Inject faults: by rules for the next calls, and by rates for a fraction of all calls.

A rule is a JSON object:

    {"on": "kickoff" | "status" | "inputs" | "resume" | "stop", "do": ..., "times": 1, "rate": 1, "inputs": {}}

`times` is how many calls it affects (default 1; null: all until it is removed), `rate` the fraction of the calls that
it affects, `inputs` limits it to kickoffs with these inputs. Rules for the same call are used up in the order in which
they were added. Values of `do`:

    http             respond with `code` (500) with `body` (text, or JSON), `content_type`, `headers`; nothing is done
    garbage          respond 200 with a page of HTML; nothing is done
    slow_503         respond 503 after `seconds`; nothing is done
    delay            do the work, then respond after `seconds`
    slow             do the work, then send one byte every `seconds` (1)
    never            do the work, then send nothing until the caller disconnects
    hang_up_before   close the connection; the call leaves no trace
    hang_up_after    do the work, then close the connection without a response
    reset_before     reset the connection; the call leaves no trace
    reset_during     reset the connection before the body is read; the call is recorded, nothing is done
    reset_after      do the work, then reset the connection without a response
    truncated        do the work, then send the first half of the JSON as a complete body
    cut_off          do the work, then close the connection in the middle of the body
    huge             do the work, then respond with `bytes` (20 MiB) of padding
    same_id          (kickoff) do the work, then return the ID reported last, of another execution
    wrong_id         (kickoff) do the work, then return `id` (default: text that is not an ID)
    not_found        (status) report the execution as unknown
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from bridge.sandbox.inputs import contain
from bridge.sandbox.rules import UNAVAILABLE, Call, Fault, FaultKind, Rule

UNRECORDED: frozenset[FaultKind | None] = frozenset({"hang_up_before", "reset_before"})
"""The faults that leave no entry in the ledger."""

NO_RESPONSE: frozenset[FaultKind | None] = frozenset({"hang_up_after", "reset_during", "reset_after", "never"})
"""The faults that send no response."""

NO_FAULT = Fault()
_NO_INPUTS: Mapping[str, object] = {}
_UNAVAILABLE = Fault("http", response=UNAVAILABLE)


class Faults:
    """Keeps the active rules and the RNG that applies the rates."""

    def __init__(self, rates: Mapping[Call, float], seed: int) -> None:
        self._rates = rates
        self._rng = Random(f"{seed}:faults")
        self._rules: list[Rule] = []

    def add(self, rules: list[Rule]) -> None:
        """Append rules to the active ones."""
        self._rules += rules

    def clear(self) -> None:
        """Remove all rules; the rates stay."""
        self._rules.clear()

    def report(self) -> dict[str, object]:
        """Return the active rules, each with its remaining `times`."""
        return {"rules": [{**rule.source, "times": rule.times} for rule in self._rules]}

    @property
    def depend_on_inputs(self) -> bool:
        """Whether some rule is limited to kickoffs with certain inputs."""
        return any(rule.inputs for rule in self._rules)

    def next_for(self, call: Call, inputs: Mapping[str, object] = _NO_INPUTS) -> Fault:
        """Return the fault for an incoming call, and decrement `times` of its rule."""
        for index, rule in enumerate(self._rules):
            if rule.on == call and contain(inputs, rule.inputs) and self._applies(rule):
                self._consume(index, rule)
                return rule.fault
        return _UNAVAILABLE if self._rng.random() < self._rates.get(call, 0.0) else NO_FAULT

    def _applies(self, rule: Rule) -> bool:
        return rule.rate >= 1 or self._rng.random() < rule.rate

    def _consume(self, index: int, rule: Rule) -> None:
        if rule.times is None:
            return
        left = [replace(rule, times=rule.times - 1)] if rule.times > 1 else []
        self._rules[index : index + 1] = left
