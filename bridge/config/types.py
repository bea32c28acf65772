"""Types that several settings share: durations, sizes, counts, names, lists, tokens."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bridge.config.placeholders import PUBLIC, SANDBOX_TOKEN, is_placeholder
from bridge.config.urls import check_base_url, check_host, check_http_url, check_pattern
from bridge.core.addresses import is_loopback
from bridge.core.inbound.mapping import compiled
from bridge.core.inbound.signatures import PRIVATE, ed25519_seed
from bridge.core.runs.model import CREW_NAME
from bridge.core.runs.request import parse_duration

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

MINUTE = 60.0  # seconds
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1024  # bytes
MIB = 1024 * KIB

LONGEST = 3650 * DAY
"""A date that far away still fits every calendar and every column."""

_FACTORS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|)")


def read_duration(value: Any) -> float:
    """Seconds of a duration with its unit; raises `ValueError` for anything else, a bare number too."""
    if not isinstance(value, str):
        raise ValueError("must be a duration with its unit, such as 500ms, 30s, 5m, 1h or 14d")  # noqa: TRY004  (pydantic reads ValueError)
    seconds = parse_duration(value)
    if not 0 < seconds <= LONGEST:
        raise ValueError("must be longer than nothing and at most 3650d")
    return seconds


def read_size(value: Any) -> int:
    """Bytes of a size such as `64KiB`, `8MiB` or `512`; raises `ValueError`."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    size = 0 if match is None else int(match[1]) * _FACTORS[match[2]]
    if not size:
        raise ValueError("must be a size above zero, such as 64KiB, 8MiB or a number of bytes")
    return size


Seconds = Annotated[float, BeforeValidator(read_duration)]
Bytes = Annotated[int, BeforeValidator(read_size)]


class Section(BaseModel):
    """One block of settings: frozen, strict about names, silent about values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, data: Any) -> Any:
        """A name with nothing behind it (`ops_port:`) counts as left out."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}

    @field_validator("*")
    @classmethod
    def _secrets_are_not_public(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse placeholders in every field that holds secrets, whatever its name."""
        for secret in value if isinstance(value, tuple) else (value,):
            if not isinstance(secret, SecretStr):
                continue
            text = secret.get_secret_value()
            if is_placeholder(text):
                raise ValueError(PUBLIC)
            if SANDBOX_TOKEN in text and not cls._is_for_this_machine(info):
                raise ValueError(
                    "is the token of the sandbox, and public; only a crew on a loopback address may have it"
                )
        return value

    @classmethod
    def _is_for_this_machine(cls, info: ValidationInfo) -> bool:
        """Whether the section's `url` leads to this machine; one that is wrong is reported by itself."""
        if "url" not in cls.model_fields or info.field_name == "url":
            return False
        url = info.data.get("url")
        return not isinstance(url, str) or is_loopback(urlsplit(url).hostname or "")


class Whole(Section):
    """All sections together: while they are validated, `info.context` is what `crews` names, sound or not.

    It is None where that is not known. To be inherited behind `BaseSettings`, which takes no context and hands its
    values on to here.
    """

    def __init__(self, /, **values: Any) -> None:  # a setting may be called `self`, and is unknown then
        crews = values.get("crews")
        names = frozenset(map(str, crews)) if isinstance(crews, Mapping) else None
        self.__pydantic_validator__.validate_python(values, self_instance=self, context=names)
