"""Which callback URLs a request may name; the address behind the name is checked again when it is dialled."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from bridge.core.addresses import may_be_called
from bridge.core.errors import RequestRefused

_DEFAULT_PORTS = {"https": 443, "http": 80}
_USUAL_PORTS = (443, 8443)
_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253  # characters


@dataclass(frozen=True, slots=True)
class CallbackRules:
    """What the operator allows.

    `allow`: patterns `scheme://host[:port]`, where `*.` stands for one or more labels; None: any public https address,
    on one of the usual ports. `allow_private` permits addresses of closed networks, plain http to them, and any port.
    """

    allow: Sequence[str] | None = None
    allow_private: bool = False


def check(url: str, rules: CallbackRules) -> None:
    """Raise `RequestRefused` (`callback_not_allowed`) unless the rules let this URL be called."""
    parts = _split(url)
    if parts.scheme == "http" and not rules.allow_private:
        raise _refusal("plain http is not allowed")
    if not is_plain_host(parts.hostname or ""):
        raise _refusal("the host must be a name or an address in its usual form")
    if not _literal_may_be_called(parts, rules):
        raise _refusal("the address may not be called")
    if parts.username is not None or parts.password is not None:
        raise _refusal("the URL must not hold a user name or password")
    if rules.allow is not None and not any(_matches(parts, pattern) for pattern in rules.allow):
        raise _refusal("the address is not on the list of allowed callbacks")
    if rules.allow is None and not rules.allow_private and _port(parts) not in _USUAL_PORTS:
        raise _refusal("the port must be 443 or 8443")


def is_plain_host(host: str) -> bool:
    """Whether this is a name, or an address in its canonical form; `host` as `urlsplit` gives it, in lower case.

    `0x7f.1` and `127.1` are names for some libraries and addresses for others, a dot at the end makes another text of
    the same name, and an address with a zone means an interface of this machine.
    """
    if ":" in host:
        return "%" not in host and _is_address(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _is_address(host)
    return len(host) <= _LONGEST_NAME and _HOST_NAME.fullmatch(host) is not None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _literal_may_be_called(parts: SplitResult, rules: CallbackRules) -> bool:
    """Check an address written as a number at once; a name is checked when it is resolved."""
    host, plain = parts.hostname or "", parts.scheme == "http"
    if not _is_address(host):
        return True
    return may_be_called(ipaddress.ip_address(host), allow_private=rules.allow_private, plain=plain)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        raise _refusal("not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not _visible_ascii(url):
        raise _refusal("must be an absolute https URL in ASCII")
    if "[" in parts.netloc and ":" not in parts.hostname:
        raise _refusal("only IPv6 addresses are written in brackets")
    return parts


def _visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _matches(parts: SplitResult, pattern: str) -> bool:
    wanted = urlsplit(pattern)
    host, wanted_host = parts.hostname or "", wanted.hostname or ""
    same_host = host.endswith(wanted_host[1:]) if wanted_host.startswith("*.") else host == wanted_host
    return same_host and parts.scheme == wanted.scheme and _port(parts) == _port(wanted)


def _port(parts: SplitResult) -> int | None:
    return _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port


def _refusal(why: str) -> RequestRefused:
    return RequestRefused("callback_not_allowed", why, "callback_url")
