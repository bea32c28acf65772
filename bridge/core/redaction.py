"""Known secrets in what comes from outside: replaced by a mask before it is stored, published or logged.

Only exact values are replaced, in every way in which they are usually written, because the rest belongs to the user.
A secret of fewer than eight characters is not looked for: it would blot out ordinary words.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MASK = "***"
SHORTEST_SECRET = 8  # characters
_LONGEST_END = 256
_SHORT_TEXT = 1024  # up to which one regular expression is faster than a search for each form

Item = TypeVar("Item", bound="DataclassInstance")

_WEBHOOK_URL = re.compile(r"(/amp/)[\w-]{38,}(?=/)", re.ASCII)  # a run's own token, by its shape: there are too many
_ALIGNMENTS = ((0, 0), (1, 2), (2, 3))  # bytes that precede a secret in base64, characters that they take part in


def forms(secret: str) -> set[str]:
    """Return how a secret may be written: as it is, inside JSON, a `repr`, a URL, base64 at any offset, or hex."""
    written = {json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1]}
    found = {secret, quote(secret, safe=""), quote(secret), secret.encode().hex(), *written}
    for before, skipped in _ALIGNMENTS:
        raw = b"\0" * before + secret.encode()
        for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
            found.add(encoded[skipped : len(raw) * 8 // 6].decode())
    return {form for form in found if len(form) >= SHORTEST_SECRET}


class Redactor:
    """Long-lived: the secrets of the settings, and every former value of those that were changed."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Replace these values as well."""
        new = {form for one in secrets if len(one) >= SHORTEST_SECRET for form in forms(one)}
        self._forms = tuple(sorted(new.union(self._forms), key=lambda form: (-len(form), form)))
        self._any = re.compile("|".join(map(re.escape, self._forms)) or "(?!)")

    def text(self, text: str, *, cut: bool = False) -> str:
        """Return the text without known secrets; `cut`: its end may hold only the first part of one."""
        found = self._forms if len(text) > _SHORT_TEXT else self._any.findall(text)
        for form in found:
            text = text.replace(form, MASK)
        return _WEBHOOK_URL.sub(rf"\1{MASK}", self._without_start(text) if cut else text)

    def value(self, value: Any) -> Any:
        """Return JSON without known secrets in texts and keys; the same object if it holds none."""
        everything = "\0".join(_texts(value))
        return value if self.text(everything) == everything else self._copied(value)

    def fields(self, item: Item) -> Item:
        """Return a dataclass whose fields hold no known secret: texts that may have been cut, bytes, JSON."""
        return replace(item, **{field.name: self._field(getattr(item, field.name)) for field in fields(item)})

    def _field(self, value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return self.fields(value)
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "surrogateescape"), cut=True).encode("utf-8", "surrogateescape")
        return self.text(value, cut=True) if isinstance(value, str) else self.value(value)

    def _copied(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._copied(name): self._copied(content) for name, content in value.items()}
        return [self._copied(item) for item in value] if isinstance(value, list) else value

    def _without_start(self, text: str) -> str:
        """The text without the first part of a secret at its end."""
        end = text[-_LONGEST_END:]
        for form in self._forms:
            start = end.rfind(form[:SHORTEST_SECRET])
            if start >= 0 and form.startswith(end[start:]):
                return text[: len(text) - len(end) + start] + MASK
        return text


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included; without recursion."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            yield from (name for name in item if isinstance(name, str))
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
