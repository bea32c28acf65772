"""Removing secrets from log lines."""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from bridge.core.redaction import MASK, SHORTEST_SECRET, forms

_SECRET_NAME = re.compile(
    r"authorization|token|secret|password|signature|cookie|api[-_]?key|callback_url", re.IGNORECASE
)
_SECRET_SHAPES = (
    (re.compile(r"\b(bearer)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(Basic) [A-Za-z0-9+/]{8,}={0,2}"), rf"\1 {MASK}"),
    (re.compile(r"(wh(?:sec|sk)_)[A-Za-z0-9+/=_-]+"), rf"\1{MASK}"),
    (re.compile(r"(://)[^\s\"'<>]*@"), rf"\1{MASK}@"),  # up to the last @: unquoted passwords hold them, too
    (re.compile(r"(/amp/)[^/\s\"'<>]+"), rf"\1{MASK}"),  # the path is the permission
    (re.compile(r"([?&][\w-]*(?:token|secret|signature|password|key)=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMES_REMEMBERED = 512  # the names in log calls are few; those in logged mappings may be anybody's


def _escaped(value: Any, keep: str = "") -> Any:
    if not isinstance(value, str):
        return value  # shown by repr, which escapes
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], value)


class Redaction:
    """Replaces secrets by a mask: by the name they go under, by their shape, and by their exact value.

    Gives back plain values only (text, numbers, lists, dicts), so that rendering finds nothing that it must print by
    `repr`, where a secret could hide.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secret_forms = set[str]()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Replace these values, too."""
        self._secret_forms |= {form for one in secrets if len(one) >= SHORTEST_SECRET for form in forms(one)}
        longest_first = sorted(self._secret_forms, key=lambda form: (-len(form), form))
        values = [(re.compile("|".join(map(re.escape, longest_first))), MASK)] if longest_first else []
        self._shapes = (*values, *_SECRET_SHAPES)
        self._name = lru_cache(_NAMES_REMEMBERED)(self._read_name)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """The structlog processor."""
        return self.mapping(event)

    def mapping(self, content: Mapping[Any, Any]) -> dict[str, Any]:
        """A copy with text keys, where the values under a secret's name are masked."""
        redacted = {}
        for name, value in content.items():
            shown, is_secret = self._name(str(name))
            redacted[shown] = MASK if is_secret and not _says_nothing(value) else self.value(value)
        return redacted

    def value(self, value: Any) -> Any:
        """A redacted copy of any value."""
        if _says_nothing(value):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self._other(value)

    def text(self, text: str) -> str:
        """Text without known secrets and without what looks like one."""
        for shape, replacement in self._shapes:
            if shape.search(text):  # most text is clean, and to find that out costs a third of a `sub`
                text = shape.sub(replacement, text)
        return text

    def _read_name(self, name: str) -> tuple[str, bool]:
        """The name as it may be shown, and whether it says that its value is a secret."""
        return self.text(name), bool(_SECRET_NAME.search(name))

    def _other(self, value: Any) -> Any:
        """A number stays one unless it is a secret; everything else is shown as text."""
        shown = _exception_text(value) if isinstance(value, BaseException) else str(value)
        redacted = self.text(shown)
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return value if is_number and redacted == shown else redacted


def _says_nothing(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _exception_text(error: BaseException | None) -> str:
    """Never the `repr`: that of an HTTP client's error holds the headers it sent."""
    return f"{type(error).__name__}: {error}" if error else "no exception"
