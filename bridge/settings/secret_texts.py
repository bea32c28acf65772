"""Which values of loaded settings must never be shown."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from bridge.settings.model import Settings


def secret_values(settings: Settings) -> frozenset[str]:
    """Every secret text that the settings hold, passwords inside URLs too: what log lines are searched for."""
    return frozenset(form for secret in _secrets(settings) for form in _forms(secret))


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from _secrets(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from _secrets(item)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    if secret.startswith(("whsec_", "whsk_")):
        yield secret.partition("_")[2].rstrip("=")
    if password := _password(secret):
        yield password
        yield unquote(password)


def _password(secret: str) -> str | None:
    """The password of a URL; a token may look like one and be none, such as `a://[b`."""
    try:
        return urlsplit(secret).password if "://" in secret else None
    except ValueError:
        return None
