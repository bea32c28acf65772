"""A hook's rule: whether a webhook is wanted, and what its content becomes. JMESPath, bounded in time and size.

An expression sees the members of the body, and beside them `body`, `headers` and `query`, which always win: so both
`action` and `body.action` say the same, and no body can pass for a header. The expressions are the operator's, the
content comes from outside, and the bounds hold for whatever arrives.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

from bridge.core.errors import RequestRefused
from bridge.core.json import MAX_DEPTH
from bridge.core.runs import request
from bridge.core.runs.model import KickoffRequest

Scope = Mapping[str, Any]

LONGEST = 1000  # characters of an expression
MAX_STEPS = 50_000  # for all expressions of one webhook together; below a tenth of a second


@dataclass(frozen=True, slots=True)
class Expression:
    """A JMESPath expression that was checked."""

    text: str
    tree: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a hook makes of a webhook.

    `default_key`: an idempotency key that may be there, unlike `idempotency_key`, which must. `max_bytes`: how large
    inputs and meta may come out together.
    """

    when: Expression | None = None
    inputs: Mapping[str, Expression] = field(default_factory=dict)
    meta: Mapping[str, Expression] = field(default_factory=dict)
    idempotency_key: Expression | None = None
    callback_url: Expression | None = None
    default_key: Expression | None = None
    max_bytes: int = 1024 * 1024

    def request(self, scope: Scope, crew: str) -> KickoffRequest | None:
        """The kickoff request, or None if `when` does not hold; raises `RequestRefused` naming the expression."""
        evaluator = Evaluator(scope)
        if self.when is not None and not evaluator.true(self.when):
            return None
        mapped = {
            "crew": crew,
            "inputs": {name: _something(evaluator, f"inputs.{name}", what) for name, what in self.inputs.items()},
            "meta": {name: evaluator.of(f"meta.{name}", what) for name, what in self.meta.items()},
            "idempotency_key": self._key(evaluator),
            "callback_url": None if self.callback_url is None else evaluator.of("callback_url", self.callback_url),
        }
        _require_json(mapped, self.max_bytes)
        return request.parse(mapped)

    def _key(self, evaluator: "Evaluator") -> str | None:
        if self.idempotency_key is not None:
            return _key_text(_something(evaluator, "idempotency_key", self.idempotency_key))
        found = None if self.default_key is None else evaluator.of("idempotency_key", self.default_key)
        return None if found is None else _key_text(found)


def scope(body: Any, headers: Mapping[str, str], query: Mapping[str, Any]) -> Scope:
    """What expressions see."""
    members = body if isinstance(body, dict) else {}
    return {**members, "body": body, "headers": headers, "query": query}


def compiled(text: str) -> Expression:
    """Check an expression as far as that is possible without content; raises `ValueError` in plain words."""
    if len(text) > LONGEST:
        raise ValueError(f"must be at most {LONGEST} characters long")
    try:
        tree = jmespath.compile(text).parsed
        for node in _nodes({"type": "expression", "children": [tree]}):
            _check_node(node)
    except JMESPathError as error:
        at = getattr(error, "lex_position", getattr(error, "lexer_position", None))
        where = "" if at is None else f", at character {at + 1}"
        raise ValueError(f"is not a JMESPath expression{where}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return Expression(text, tree)


class _Interpreter(TreeInterpreter):
    """The library's, with an account of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MAX_STEPS

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """One step."""
        self._left -= 1
        if self._left < 0:
            raise OverflowError
        return super().visit(node, *args, **kwargs)


class Evaluator:
    """The expressions of one rule, looking at one webhook."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._interpreter = _Interpreter()

    def of(self, name: str, expression: Expression) -> Any:
        """What an expression gives. The library's own words are not repeated: they quote the content."""
        try:
            return self._interpreter.visit(expression.tree, self._scope)
        except OverflowError:
            raise RequestRefused("invalid_request", "the content is too much for this expression", name) from None
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            raise RequestRefused("invalid_request", "this expression fails on the content", name) from None

    def true(self, expression: Expression) -> bool:
        """By JMESPath's own rule: false, null and whatever is empty are not true; a 0 is."""
        found = self.of("when", expression)
        return not (found is None or found is False or found in ("", [], {}))


def _something(evaluator: Evaluator, name: str, expression: Expression) -> Any:
    found = evaluator.of(name, expression)
    if found is None:
        raise RequestRefused("invalid_request", f"{expression.text} gives nothing for {name}", name)
    return found


def _key_text(found: Any) -> str:
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise RequestRefused("invalid_request", "must be text or a number", "idempotency_key")
    return str(found)


def _nodes(node: Any) -> Iterator[Any]:
    """Every node of a tree; a slice's children are numbers, and no nodes."""
    yield node
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _nodes(child)


def _check_node(node: Any) -> None:
    """What the library tells only when it comes to it: functions, their arguments, references that lead nowhere."""
    called = node["type"] == "function_expression"
    if not called and any(isinstance(child, dict) and child["type"] == "expref" for child in node["children"]):
        raise ValueError("uses & outside of a function's arguments")
    if called:
        _check_call(node["value"], len(node["children"]))


def _check_call(name: str, given: int) -> None:
    function = Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise ValueError(f"calls {name}(), which JMESPath does not have")
    wanted = function["signature"]
    variadic = bool(wanted) and wanted[-1].get("variadic", False)
    if given < len(wanted) or (given > len(wanted) and not variadic):
        raise ValueError(f"gives {name}() {given} arguments instead of {len(wanted)}{' or more' if variadic else ''}")


def _require_json(value: Any, room: int) -> None:
    """Raise unless this is JSON of at most so many bytes; stops at the first byte too many, however large it is."""
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        room -= _size(item)
        if room < 0 or depth > MAX_DEPTH + 2:  # the two levels above an input
            raise RequestRefused("too_large", "inputs and meta come out too large, or too deep")
        if isinstance(item, dict):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            waiting += [(part, depth + 1) for part in item]


def _size(item: Any) -> int:
    """Bytes of one item without what it holds, about."""
    if isinstance(item, str):
        if "\0" in item:  # out of a form or the query; JSON with it is refused before
            raise RequestRefused("invalid_request", "the content holds the character NUL")
        return len(item.encode("utf-8", "surrogatepass")) + 3
    if isinstance(item, float) and not math.isfinite(item):
        raise RequestRefused("invalid_request", "the content leads to a number that is no JSON")
    return 8
