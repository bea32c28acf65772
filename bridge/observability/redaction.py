"""Remove secrets from log events."""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from bridge.core.redaction import MASK, Redactor

_SECRET_NAME = re.compile(
    r"authorization|token|secret|password|signature|cookie|api[-_]?key|callback_url", re.IGNORECASE
)
_SECRET_SHAPES = (
    (re.compile(r"\b(bearer)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(Basic) [A-Za-z0-9+/]{8,}={0,2}"), rf"\1 {MASK}"),
    (re.compile(r"(wh(?:sec|sk)_)[A-Za-z0-9+/=_-]+"), rf"\1{MASK}"),
    (re.compile(r"(://)[^\s\"'<>]*@"), rf"\1{MASK}@"),  # up to the last @: unquoted passwords may contain one
    (re.compile(r"(/amp/)[^/\s\"'<>]+"), rf"\1{MASK}"),  # the path is the credential
    (re.compile(r"([?&][\w-]*(?:token|secret|signature|password|key)=)[^&\s\"'<>]+", re.IGNORECASE), rf"\1{MASK}"),
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_CACHED_NAMES = 512  # log calls use few names; logged mappings may contain any


def _escaped(value: Any, keep: str = "") -> Any:
    if not isinstance(value, str):
        return value  # rendered by repr, which escapes
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], value)


class Redaction:
    """Keeps the known secrets, and masks secrets in log events by name, by shape, and by exact value.

    Redacted events contain only plain values (text, numbers, lists, dicts), so that the renderer never uses a `repr`,
    which could contain a secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known = Redactor()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these values as well."""
        self._known.learn(secrets)
        self._name = lru_cache(_MAX_CACHED_NAMES)(self._read_name)

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """Redact an event; the structlog processor."""
        return self.mapping(event)

    def mapping(self, content: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a redacted copy with text keys; values under the name of a secret are masked."""
        redacted = {}
        for name, value in content.items():
            shown, is_secret = self._name(str(name))
            redacted[shown] = MASK if is_secret and not _is_trivial(value) else self.value(value)
        return redacted

    def value(self, value: Any) -> Any:
        """Return a redacted copy of any value."""
        if _is_trivial(value):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.mapping(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self._other(value)

    def text(self, text: str) -> str:
        """Return text without known secrets and without text that looks like one."""
        text = self._known.text(text)
        for shape, replacement in _SECRET_SHAPES:
            if shape.search(text):  # most text is clean, and `search` costs a third of `sub`
                text = shape.sub(replacement, text)
        return text

    def _read_name(self, name: str) -> tuple[str, bool]:
        """Return the name redacted, and whether it marks its value as a secret."""
        return self.text(name), bool(_SECRET_NAME.search(name))

    def _other(self, value: Any) -> Any:
        """Return a number unchanged unless it is a secret, and anything else as redacted text."""
        shown = _exception_text(value) if isinstance(value, BaseException) else str(value)
        redacted = self.text(shown)
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return value if is_number and redacted == shown else redacted


def _is_trivial(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _exception_text(error: BaseException | None) -> str:
    """Return type and message, never the `repr`: an HTTP client's error shows its request headers there."""
    return f"{type(error).__name__}: {error}" if error else "no exception"
