"""Kinds of values that several settings share: counts, names, lists, tokens."""

import base64
import binascii
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.core.mapping import compiled
from bridge.core.model import CREW_NAME
from bridge.core.signatures import PRIVATE, ed25519_seed
from bridge.settings.addresses import check_base_url, check_host, check_http_url, check_pattern

_WEBHOOK_PREFIX = "whsec_"
_SHORTEST_KEY, _LONGEST_KEY = 24, 64  # bytes; Standard Webhooks, "Signature scheme"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_LONGEST_AMQP_NAME = 255  # bytes; a short string on the wire


def refuse_bool(value: Any) -> Any:
    """`yes` is no number, although Python would take it for 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  (pydantic reads ValueError)
    return value


def as_list(value: Any) -> Any:
    """A list that the environment had to write in another way.

    JSON; or words between commas or white space; or one variable per place, which arrives as {"0": …, "1": …}.
    """
    if isinstance(value, dict) and value and all(str(key).isdecimal() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _json(value)
    return [word for word in re.split(r"[\s,]+", value) if word]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("must be a list: JSON, or words between commas") from None


def one_or_many(value: Any) -> Any:
    """One text or a list of them. A secret may hold commas and spaces, so a text is never taken apart."""
    return as_list(value) if isinstance(value, dict) else [value] if isinstance(value, str) else value


def lower(value: Any) -> Any:
    """Text in lower case, for words that people write in either."""
    return value.lower() if isinstance(value, str) else value


def check_crew_name(name: str) -> str:
    """The name of a crew; raises `ValueError`."""
    if not CREW_NAME.fullmatch(name):
        raise ValueError("a crew's name is 1 to 64 letters, digits, `-` or `_`")
    return name


def check_hook_name(name: str) -> str:
    """A hook's name is the end of a path; raises `ValueError`."""
    if not CREW_NAME.fullmatch(name):
        raise ValueError("a hook's name is 1 to 64 letters, digits, `-` or `_`")
    return name


def check_header(name: str) -> str:
    """The name of an HTTP header; raises `ValueError`."""
    if not _HEADER.fullmatch(name):
        raise ValueError("must be the name of an HTTP header")
    return name


def check_expression(text: str) -> str:
    """A JMESPath expression with functions that exist; raises `ValueError`."""
    compiled(text)
    return text


def check_amqp_name(name: str) -> str:
    """The name of a queue or exchange; raises `ValueError`."""
    if not name or not name.isprintable() or len(name.encode()) > _LONGEST_AMQP_NAME:
        raise ValueError(f"must be printable, not empty and at most {_LONGEST_AMQP_NAME} bytes long")
    return name


def check_token(token: SecretStr) -> SecretStr:
    """A token travels in a header, which takes no more than this; raises `ValueError`."""
    text = token.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces, and not empty")
    return token


def check_webhook_secret(secret: SecretStr) -> SecretStr:
    """A Standard Webhooks secret, with the padding that libraries insist on and people lose; raises `ValueError`."""
    text = secret.get_secret_value()
    if text.startswith(PRIVATE):
        ed25519_seed(text)
        return secret
    key = text.removeprefix(_WEBHOOK_PREFIX)
    padded = key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4)
    if key == text or not _SHORTEST_KEY <= _decoded_size(padded) <= _LONGEST_KEY:
        raise ValueError(
            f"must be whsec_ and the base64 of {_SHORTEST_KEY} to {_LONGEST_KEY} bytes, or whsk_ and that of 32 or 64"
        )
    return SecretStr(_WEBHOOK_PREFIX + padded)


def _decoded_size(text: str) -> int:
    try:
        return len(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return 0


def check_secret_http_url(url: SecretStr) -> SecretStr:
    """An http or https URL that may carry a token in its query; raises `ValueError`."""
    check_http_url(url.get_secret_value())
    return url


Count = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1)]
Rate = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=65535)]
CrewName = Annotated[str, AfterValidator(check_crew_name)]
HookName = Annotated[str, AfterValidator(check_hook_name)]
Header = Annotated[str, AfterValidator(check_header)]
AmqpName = Annotated[str, AfterValidator(check_amqp_name)]
BaseUrl = Annotated[str, AfterValidator(check_base_url)]
Pattern = Annotated[str, AfterValidator(check_pattern)]
Host = Annotated[str, AfterValidator(check_host)]
Text = Annotated[str, Field(min_length=1)]
Token = Annotated[SecretStr, AfterValidator(check_token)]
Secret = Annotated[SecretStr, Field(min_length=1)]
WebhookSecret = Annotated[SecretStr, AfterValidator(check_webhook_secret)]
SecretHttpUrl = Annotated[SecretStr, AfterValidator(check_secret_http_url)]
AS_LIST = BeforeValidator(as_list)
LOWER = BeforeValidator(lower)
