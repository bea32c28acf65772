"""Map an inbound webhook or message to a kickoff request with JMESPath expressions, bounded in time and size.

The scope of an expression is the members of the body, and `body`, `headers`, and either `query` (a webhook) or
`properties` (a message), which take precedence: so `action` and `body.action` are equivalent, and no body can pose as
a header. The names of headers are in lower case; expressions may write them in any case. The expressions are trusted,
the content is not.
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
from bridge.core.numbers import keeps_digits
from bridge.core.runs import request
from bridge.core.runs.model import KickoffRequest

Scope = Mapping[str, Any]

MAX_EXPRESSION = 1000  # characters
MAX_STEPS = 50_000  # of evaluation, for all expressions of one webhook or message together; less than 0.1 s

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Headers hidden from expressions, because mapped values are stored, and a stored request must contain no secret."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked JMESPath expression."""

    text: str
    tree: Any = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """The expressions of one hook or source.

    `idempotency_key` must yield a value, `default_key` may. `max_bytes` bounds the result: inputs and meta together.
    """

    when: Expression | None = None
    inputs: Mapping[str, Expression] = field(default_factory=dict)
    meta: Mapping[str, Expression] = field(default_factory=dict)
    idempotency_key: Expression | None = None
    callback_url: Expression | None = None
    default_key: Expression | None = None
    max_bytes: int = 1024 * 1024

    def request(self, scope: Scope, crew: str, key: str | None = None) -> KickoffRequest | None:
        """Return the kickoff request, or None if `when` is false; raises `RequestRefused` naming the expression.

        `key`: the idempotency key if no expression yields one.
        """
        evaluator = Evaluator(scope)
        if self.when is not None and not evaluator.is_true(self.when):
            return None
        mapped = {
            "crew": crew,
            "inputs": {
                name: _required(evaluator, f"inputs.{name}", expression) for name, expression in self.inputs.items()
            },
            "meta": {name: evaluator.evaluate(f"meta.{name}", value) for name, value in self.meta.items()},
            "idempotency_key": self._key(evaluator),
            "callback_url": None
            if self.callback_url is None
            else evaluator.evaluate("callback_url", self.callback_url),
        }
        _require_json(mapped, self.max_bytes)
        return request.parse(mapped, idempotency_key=key)

    def _key(self, evaluator: "Evaluator") -> str | None:
        if self.idempotency_key is not None:
            return _key_text(_required(evaluator, "idempotency_key", self.idempotency_key))
        found = None if self.default_key is None else evaluator.evaluate("idempotency_key", self.default_key)
        return None if found is None else _key_text(found)


def scope(body: Any, headers: Mapping[str, Any], **others: Mapping[str, Any]) -> Scope:
    """Build the scope in which expressions are evaluated; `others` is the `query` or the `properties`."""
    members = body if isinstance(body, dict) else {}
    visible = {name: value for name, value in headers.items() if name not in _SECRET_HEADERS}
    return {**members, "body": body, "headers": visible, **others}


def compile_expression(text: str) -> Expression:
    """Parse and check an expression as far as possible without content; raises `ValueError`, worded for users."""
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"must be at most {MAX_EXPRESSION} characters long")
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


class _ExactFunctions(Functions):
    """The library's functions, with numbers as exact as in a request."""

    def call_function(self, name: str, arguments: Any) -> Any:
        """Call a function; raises `ValueError` if `to_number` would round."""
        found = super().call_function(name, arguments)
        text = arguments[0] if name == "to_number" else None
        if isinstance(text, str) and isinstance(found, float) and not keeps_digits(found, text):
            raise ValueError("a number has more digits than a double keeps")
        return found


class _BoundedInterpreter(TreeInterpreter):
    """The library's interpreter, limited to `MAX_STEPS`; the names of `headers` match in any case."""

    def __init__(self, headers: object) -> None:
        super().__init__(jmespath.Options(custom_functions=_ExactFunctions()))
        self._steps_left = MAX_STEPS
        self._headers = headers

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one node; raises `OverflowError` beyond the limit."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise OverflowError
        return super().visit(node, *args, **kwargs)

    def visit_field(self, node: Any, value: Any) -> Any:
        """Return a member; of the headers, whatever its case."""
        field: Any = {**node, "value": node["value"].lower()} if value is self._headers else node
        return super().visit_field(field, value)


class Evaluator:
    """Evaluates the expressions of one rule on one webhook or message."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._interpreter = _BoundedInterpreter(scope.get("headers"))

    def evaluate(self, name: str, expression: Expression) -> Any:
        """Return the value; raises `RequestRefused` without the library's message, which quotes the content."""
        try:
            return self._interpreter.visit(expression.tree, self._scope)
        except OverflowError:
            raise RequestRefused("invalid_request", "evaluating this expression takes too many steps", name) from None
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            raise RequestRefused("invalid_request", "this expression fails on the content", name) from None

    def is_true(self, expression: Expression) -> bool:
        """Return whether the value is true in JMESPath: false, null, and empty values are not, 0 is."""
        value = self.evaluate("when", expression)
        return not (value is None or value is False or value in ("", [], {}))


def _required(evaluator: Evaluator, name: str, expression: Expression) -> Any:
    value = evaluator.evaluate(name, expression)
    if value is None:
        raise RequestRefused("invalid_request", f"{expression.text} yields nothing for {name}", name)
    return value


def _key_text(found: Any) -> str:
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise RequestRefused("invalid_request", "must be a string or a number", "idempotency_key")
    return str(found)


def _nodes(node: Any) -> Iterator[Any]:
    """Yield every node of a tree; the children of a slice are numbers, not nodes."""
    yield node
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _nodes(child)


def _check_node(node: Any) -> None:
    """Check what the library checks only on evaluation: function names, argument counts, misplaced references."""
    called = node["type"] == "function_expression"
    if not called and any(isinstance(child, dict) and child["type"] == "expref" for child in node["children"]):
        raise ValueError("uses & outside of a function's arguments")
    if called:
        _check_call(node["value"], len(node["children"]))


def _check_call(name: str, given: int) -> None:
    function = Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise ValueError(f"calls {name}(), which JMESPath does not have")
    signature = function["signature"]
    variadic = bool(signature) and signature[-1].get("variadic", False)
    if given < len(signature) or (given > len(signature) and not variadic):
        raise ValueError(
            f"passes {given} arguments to {name}() instead of {len(signature)}{' or more' if variadic else ''}"
        )


def _require_json(value: Any, max_bytes: int) -> None:
    """Raise `RequestRefused` unless a value is JSON of at most `max_bytes`; stop as soon as it exceeds them."""
    pending, bytes_left = [(value, 0)], max_bytes
    while pending:
        item, depth = pending.pop()
        bytes_left -= _size(item)
        if bytes_left < 0 or depth > MAX_DEPTH + 2:  # the two levels above an input
            raise RequestRefused("too_large", "the mapped inputs and meta are too large, or nested too deep")
        if isinstance(item, dict):
            pending += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            pending += [(part, depth + 1) for part in item]


def _size(item: Any) -> int:
    """Return the approximate bytes of one item without its children."""
    if isinstance(item, str):
        if "\0" in item:  # from a form or the query; JSON with it is refused earlier
            raise RequestRefused("invalid_request", "the content contains the character NUL")
        return len(item.encode("utf-8", "surrogatepass")) + 3
    if isinstance(item, float) and not math.isfinite(item):
        raise RequestRefused("invalid_request", "the content leads to a number that JSON cannot express")
    return 8
