"""The types that settings share: durations, sizes, counts, names, lists, tokens."""

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
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
from bridge.config.urls import (
    check_amqp_url,
    check_pattern,
    check_proxy_url,
)
from bridge.core.addresses import is_loopback
from bridge.core.http.target import check_base_url, check_host, check_http_url, check_token
from bridge.core.inbound.mapping import compile_expression
from bridge.core.inbound.signatures import PRIVATE, ed25519_seed
from bridge.core.runs.model import CREW_NAME
from bridge.core.runs.request import parse_duration

_WEBHOOK_PREFIX = "whsec_"
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64  # Standard Webhooks, "Signature scheme"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
BYTE_ORDER_MARK = "\ufeff"
_INVISIBLE = f"{BYTE_ORDER_MARK}\u200b\u200c\u200d\u2060"  # what a web page or an editor may add
_MAX_AMQP_NAME_BYTES = 255  # a short string on the wire


def refuse_bool(value: Any) -> Any:
    """Reject a bool where a number is expected; Python would read `yes` as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  (pydantic reads ValueError)
    return value


def as_list(value: Any) -> Any:
    """Return a list from the forms in which the environment can write one.

    JSON; words separated by commas or white space; or one variable per index, which arrives as {"0": …, "1": …}.
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
        raise ValueError("must be a list, as JSON or as words separated by commas") from None


def as_urls(value: Any) -> Any:
    """As `as_list`, but in a text a comma or a space separates only where another URL follows; a password has both."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return re.split(r"[\s,]+(?=[A-Za-z]+://)", value)
    return as_list(value)


def one_or_many(value: Any) -> Any:
    """Return a list of one text or several. A secret may contain commas and spaces, so a text is never split."""
    return as_list(value) if isinstance(value, dict) else [value] if isinstance(value, str) else value


def lower(value: Any) -> Any:
    """Return text in lower case, for words that are accepted in any case."""
    return value.lower() if isinstance(value, str) else value


def none_word(value: Any) -> Any:
    """Return None for the word `none`, in any case."""
    return None if lower(value) == "none" else value


def check_name(kind: str) -> Callable[[str], str]:
    """Return a check that raises `ValueError` for a name that is not valid; `kind`: what it names, such as `crew`."""

    def check(name: str) -> str:
        if not CREW_NAME.fullmatch(name):
            raise ValueError(f"a {kind}'s name is 1 to 64 letters, digits, `-` or `_`")
        return name

    return check


def check_crews_exist(names: frozenset[str], info: ValidationInfo) -> frozenset[str]:
    """Return the names of crews. Raise `ValueError` if one is not configured."""
    known: frozenset[str] | None = info.context
    if known is not None and not names <= known:
        raise ValueError("must name only crews that are configured under `crews`")
    return names


def check_header(name: str) -> str:
    """Return the name of an HTTP header. Raise `ValueError` if it is not valid."""
    if not _HEADER.fullmatch(name):
        raise ValueError("must be the name of an HTTP header")
    return name


def check_expression(text: str) -> str:
    """Return a JMESPath expression. Raise `ValueError` if it does not compile or uses an unknown function."""
    compile_expression(text)
    return text


def check_amqp_name(name: str) -> str:
    """Return the name of a queue or an exchange. Raise `ValueError` if it is not valid."""
    if not name or not name.isprintable() or len(name.encode()) > _MAX_AMQP_NAME_BYTES:
        raise ValueError(f"must be printable, not empty, and at most {_MAX_AMQP_NAME_BYTES} bytes long")
    return name


def check_binding_key(key: str) -> str:
    """Return the key of a binding, which may be empty. Raise `ValueError` if it is not valid."""
    return key and check_amqp_name(key)


def _check_token(token: SecretStr) -> SecretStr:
    check_token(token.get_secret_value())
    return token


def check_secret_text(secret: SecretStr) -> SecretStr:
    """Return a secret. Raise `ValueError` if it is empty, or begins or ends with what a file or an editor has added.

    With such an invisible addition, every signature would be wrong.
    """
    text = secret.get_secret_value()
    if not text:
        raise ValueError("must not be empty")
    if text.startswith(BYTE_ORDER_MARK):
        raise ValueError("begins with a byte order mark; save the file without one")
    if text != text.strip() or text != text.strip(_INVISIBLE):
        raise ValueError(
            "begins or ends with white space or an invisible character; remove it "
            "(one line end at the end of a file is ignored)"
        )
    return secret


def check_webhook_secret(secret: SecretStr) -> SecretStr:
    """Return a Standard Webhooks secret, with the padding that libraries require restored. Raise `ValueError`."""
    text = secret.get_secret_value()
    if text.startswith(PRIVATE):
        ed25519_seed(text)
        return secret
    key = text.removeprefix(_WEBHOOK_PREFIX)
    padded = key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4)
    if key == text or not _MIN_KEY_BYTES <= _decoded_size(padded) <= _MAX_KEY_BYTES:
        raise ValueError(
            "must be whsec_ followed by the base64 of 24 to 64 bytes, or whsk_ followed by the base64 of 32 or 64 bytes"
        )
    return SecretStr(_WEBHOOK_PREFIX + padded)


def _decoded_size(text: str) -> int:
    try:
        return len(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return 0


def read_proxy_network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return a network, or an address as a network of one. Raise `ValueError`, also for one of every address."""
    try:
        network = ipaddress.ip_network(str(value).strip())
    except ValueError:
        raise ValueError("must be a network or an address, such as 10.0.0.0/8 or 192.0.2.7") from None
    if not network.prefixlen:
        raise ValueError("must not be every address, because callers could then invent theirs")
    return network


def check_secret_amqp_url(url: SecretStr) -> SecretStr:
    """Return a broker's URL. Raise `ValueError`."""
    check_amqp_url(url.get_secret_value())
    return url


def check_secret_http_url(url: SecretStr) -> SecretStr:
    """Return an http or https URL, which may contain a token in its query. Raise `ValueError`."""
    check_http_url(url.get_secret_value())
    return url


def check_proxy(url: SecretStr) -> SecretStr:
    """Return the URL of an HTTP proxy, which may contain a password, or `env`. Raise `ValueError`."""
    if url.get_secret_value() != "env":
        check_proxy_url(url.get_secret_value())
    return url


Count = Annotated[int, BeforeValidator(refuse_bool), Field(ge=1)]
Rate = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=65535)]
ProxyNetwork = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(read_proxy_network)]
CrewName = Annotated[str, AfterValidator(check_name("crew"))]
CrewNames = Annotated[frozenset[str], AfterValidator(check_crews_exist)]
HookName = Annotated[str, AfterValidator(check_name("hook"))]
SourceName = Annotated[str, AfterValidator(check_name("source"))]
DestinationName = Annotated[str, AfterValidator(check_name("destination"))]
Header = Annotated[str, AfterValidator(check_header)]
AmqpName = Annotated[str, AfterValidator(check_amqp_name)]
BindingKey = Annotated[str, AfterValidator(check_binding_key)]
BaseUrl = Annotated[str, AfterValidator(check_base_url)]
Pattern = Annotated[str, AfterValidator(check_pattern)]
Host = Annotated[str, AfterValidator(check_host)]
Text = Annotated[str, Field(min_length=1)]
Token = Annotated[SecretStr, AfterValidator(_check_token)]
Secret = Annotated[SecretStr, AfterValidator(check_secret_text)]
WebhookSecret = Annotated[SecretStr, AfterValidator(check_webhook_secret)]
ProxyUrl = Annotated[SecretStr, AfterValidator(check_proxy)]
SecretAmqpUrl = Annotated[SecretStr, AfterValidator(check_secret_amqp_url)]
SecretHttpUrl = Annotated[SecretStr, AfterValidator(check_secret_http_url)]
AS_URLS = BeforeValidator(as_urls)
AS_LIST = BeforeValidator(as_list)
LOWER = BeforeValidator(lower)

MINUTE = 60.0  # seconds
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1024  # bytes
MIB = 1024 * KIB

MAX_DURATION = 3650 * DAY
"""A date this far in the future still fits every calendar and every column."""

_FACTORS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|)")


def read_duration(value: Any) -> float:
    """Return the seconds of a duration with a unit. Raise `ValueError` for anything else, including a bare number."""
    if not isinstance(value, str):
        raise ValueError("must be a duration with a unit, such as 500ms, 30s, 5m, 1h, or 14d")  # noqa: TRY004  (pydantic reads ValueError)
    seconds = parse_duration(value)
    if not 0 < seconds <= MAX_DURATION:
        raise ValueError("must be longer than zero and at most 3650d")
    return seconds


def read_size(value: Any) -> int:
    """Return the bytes of a size such as `64KiB`, `8MiB`, or `512`. Raise `ValueError` for anything else."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    size = 0 if match is None else int(match[1]) * _FACTORS[match[2]]
    if not size:
        raise ValueError("must be a size above zero, such as 64KiB, 8MiB, or a number of bytes")
    return size


Seconds = Annotated[float, BeforeValidator(read_duration)]
Bytes = Annotated[int, BeforeValidator(read_size)]


class Section(BaseModel):
    """A section of settings: frozen, without unknown names, and without values in its errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, data: Any) -> Any:
        """Treat a name without a value (`ops_port:`) as absent."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}

    @field_validator("*")
    @classmethod
    def _secrets_are_not_public(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject placeholders in every secret field."""
        for secret in value if isinstance(value, tuple) else (value,):
            if not isinstance(secret, SecretStr):
                continue
            text = secret.get_secret_value()
            if is_placeholder(text):
                raise ValueError(PUBLIC)
            if SANDBOX_TOKEN in text and not cls._is_local(info):
                raise ValueError("is the public token of the sandbox; use it only for a crew on a loopback address")
        return value

    @classmethod
    def _is_local(cls, info: ValidationInfo) -> bool:
        """Return whether the section's `url` is on this machine; an invalid URL is reported separately."""
        if "url" not in cls.model_fields or info.field_name == "url":
            return False
        url = info.data.get("url")
        return not isinstance(url, str) or is_loopback(urlsplit(url).hostname or "")


class Root(Section):
    """The root of all sections: during validation, `info.context` has the names under `crews`, valid or not.

    It is None if they are unknown.
    """

    def __init__(self, /, **values: Any) -> None:  # so that a setting named `self` is reported as unknown
        crews = values.get("crews")
        names = frozenset(map(str, crews)) if isinstance(crews, Mapping) else None
        self.__pydantic_validator__.validate_python(values, self_instance=self, context=names)
