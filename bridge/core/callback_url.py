"""Which callback URLs a request may name; the address behind the name is checked again when it is dialled."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from bridge.core.addresses import may_be_called
from bridge.core.errors import RequestRefused

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class CallbackRules:
    """What the operator allows.

    `allow`: patterns `scheme://host[:port]`, where `*.` stands for one or more labels; None: any public https address.
    `allow_private` permits addresses of closed networks, and plain http to them.
    """

    allow: Sequence[str] | None = None
    allow_private: bool = False


def check(url: str, rules: CallbackRules) -> None:
    """Raise `RequestRefused` (`callback_not_allowed`) unless the rules let this URL be called."""
    parts = _split(url)
    if parts.scheme == "http" and not rules.allow_private:
        raise _refusal("plain http is not allowed")
    if not _literal_may_be_called(parts.hostname or "", rules):
        raise _refusal("the address may not be called")
    if parts.username is not None or parts.password is not None:
        raise _refusal("the URL must not hold a user name or password")
    if rules.allow is not None and not any(_matches(parts, pattern) for pattern in rules.allow):
        raise _refusal("the address is not on the list of allowed callbacks")


def _literal_may_be_called(host: str, rules: CallbackRules) -> bool:
    """Addresses written as numbers are told at once; names are only known when they are dialled."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return may_be_called(address, allow_private=rules.allow_private)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        raise _refusal("not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not _visible_ascii(url):
        raise _refusal("must be an absolute https URL in ASCII")
    return parts


def _visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _matches(parts: SplitResult, pattern: str) -> bool:
    wanted = urlsplit(pattern)
    host, wanted_host = parts.hostname or "", wanted.hostname or ""
    same_host = host.endswith(wanted_host[1:]) if wanted_host.startswith("*.") else host == wanted_host
    return same_host and parts.scheme == wanted.scheme and _port(parts) == _port(wanted)


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _refusal(why: str) -> RequestRefused:
    return RequestRefused("callback_not_allowed", why, "callback_url")
