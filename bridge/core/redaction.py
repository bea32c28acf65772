"""Masks known secrets in data from outside before it is stored, published, or logged.

Only exact values are masked, in all their usual encodings, because everything else is the user's data. Secrets of fewer
than eight characters are not masked, because ordinary words could match them.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from bridge.core.values import contents

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MASK = "***"
MIN_SECRET_LENGTH = 8  # characters
_MAX_PARTIAL = 256
_SHORT_TEXT = 1024  # characters; in longer texts, searching for each form is faster than the regular expression

Item = TypeVar("Item", bound="DataclassInstance")

_WEBHOOK_PATH = "/amp/"
_WEBHOOK_URL = re.compile(rf"({_WEBHOOK_PATH})[\w-]{{38,}}(?=/)", re.ASCII)  # the token of a run, matched by its format
_ALIGNMENTS = ((0, 0), (1, 2), (2, 3))  # bytes before a secret in base64, characters that encode them


def forms(secret: str) -> set[str]:
    """Return the encodings of a secret: itself, in JSON, a `repr`, a URL, base64 at any offset, or hex."""
    written = {json.dumps(secret)[1:-1], repr(secret)[1:-1], repr(secret.encode())[2:-1]}
    found = {secret, quote(secret, safe=""), quote(secret), secret.encode().hex(), *written}
    for before, skipped in _ALIGNMENTS:
        raw = b"\0" * before + secret.encode()
        for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
            found.add(encoded[skipped : len(raw) * 8 // 6].decode())
    return {form for form in found if len(form) >= MIN_SECRET_LENGTH}


class Redactor:
    """Masks the secrets in the settings, including former values of renewed secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Also mask these values."""
        new = {form for secret in secrets if len(secret) >= MIN_SECRET_LENGTH for form in forms(secret)}
        self._forms = tuple(sorted(new.union(self._forms), key=lambda form: (-len(form), form)))
        self._any = re.compile("|".join(map(re.escape, self._forms)) or "(?!)")
        beginnings = sorted({form[:MIN_SECRET_LENGTH] for form in self._forms} | {_WEBHOOK_PATH})
        self._beginning = re.compile("|".join(map(re.escape, beginnings)))

    def text(self, text: str, *, cut: bool = False) -> str:
        """Mask known secrets in a text; `cut`: it may end within a secret, whose first part is also masked."""
        if len(text) <= _SHORT_TEXT and not self._beginning.search(text):
            return text
        found = self._forms if len(text) > _SHORT_TEXT else self._any.findall(text)
        for form in found:
            text = text.replace(form, MASK)
        return _WEBHOOK_URL.sub(rf"\1{MASK}", self._mask_partial(text) if cut else text)

    def value(self, value: Any) -> Any:
        """Mask known secrets in the strings and keys of a JSON value; return the same object if it contains none."""
        everything = "\0".join(_texts(value))
        return value if self.text(everything) == everything else self._masked(value)

    def fields(self, item: Item) -> Item:
        """Mask known secrets in the fields of a dataclass: strings and bytes that may be cut, and JSON values."""
        everything = "\0".join(_texts(item))
        if len(everything) <= _SHORT_TEXT and not self._beginning.search(everything):
            return item
        return replace(item, **{field.name: self._field(getattr(item, field.name)) for field in fields(item)})

    def _field(self, value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return self.fields(value)
        if isinstance(value, tuple):
            return tuple(map(self._field, value))
        if isinstance(value, bytes):
            return self.text(value.decode("utf-8", "surrogateescape"), cut=True).encode("utf-8", "surrogateescape")
        return self.text(value, cut=True) if isinstance(value, str) else self.value(value)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._masked(name): self._masked(content) for name, content in value.items()}
        return [self._masked(item) for item in value] if isinstance(value, list) else value

    def _mask_partial(self, text: str) -> str:
        """Mask the first part of a secret at the end of a text."""
        end = text[-_MAX_PARTIAL:]
        for form in self._forms:
            start = end.rfind(form[:MIN_SECRET_LENGTH])
            if start >= 0 and form.startswith(end[start:]):
                return text[: len(text) - len(end) + start] + MASK
        return text


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, including keys, or in a dataclass with slots; without recursion."""
    left = [value]
    while left:
        item = left.pop()
        if item is None or isinstance(item, int | float):
            continue
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            yield from (name for name in item if isinstance(name, str))
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
        elif isinstance(item, bytes):
            yield item.decode("utf-8", "surrogateescape")
        else:
            left.extend(contents(item))
