"""Check which callback URLs a request may name. The resolved address is checked again when the connection is made."""

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
_MAX_HOST_NAME = 253  # characters


@dataclass(frozen=True, slots=True)
class CallbackRules:
    """The callback URLs that the settings allow.

    `allow`: patterns `scheme://host[:port]`, where `*.` matches one or more labels; None: any public https address on
    port 443 or 8443. `allow_private` also permits private addresses, plain http to them, and any port.
    """

    allow: Sequence[str] | None = None
    allow_private: bool = False


def check(url: str, rules: CallbackRules) -> None:
    """Raise `RequestRefused` (`callback_not_allowed`) unless the rules permit calls to this URL."""
    parts = check_address(url, allow_private=rules.allow_private)
    if rules.allow is not None and not any(matches(parts, pattern) for pattern in rules.allow):
        raise _refusal("the address is not on the list of allowed callbacks")
    if rules.allow is None and not rules.allow_private and _port(parts) not in _USUAL_PORTS:
        raise _refusal("the port must be 443 or 8443")


def check_address(url: str, *, allow_private: bool) -> SplitResult:
    """Return the parts of a URL. Raise `RequestRefused` if it is never called, not even from the settings."""
    parts = _split(url)
    if parts.scheme == "http" and not allow_private:
        raise _refusal("plain http is not allowed")
    if not is_plain_host(parts.hostname or ""):
        raise _refusal("the host must be a name or an address in its usual form")
    if not _literal_may_be_called(parts, allow_private=allow_private):
        raise _refusal("the address may not be called")
    if parts.username is not None or parts.password is not None:
        raise _refusal("the URL must not contain a user name or password")
    return parts


def is_plain_host(host: str) -> bool:
    """Return whether a host is a name, or an address in canonical form; `host` as `urlsplit` returns it, in lower case.

    Refused are `0x7f.1` and `127.1`, which only some libraries treat as addresses, a trailing dot, which makes another
    spelling of the same name, and an address with a zone, which names an interface of this machine.
    """
    if ":" in host:
        return "%" not in host and _is_address(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _is_address(host)
    return len(host) <= _MAX_HOST_NAME and _HOST_NAME.fullmatch(host) is not None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _literal_may_be_called(parts: SplitResult, *, allow_private: bool) -> bool:
    """Check a literal address; a name is checked when it is resolved."""
    host, plain = parts.hostname or "", parts.scheme == "http"
    if not _is_address(host):
        return True
    return may_be_called(ipaddress.ip_address(host), allow_private=allow_private, plain=plain)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for an invalid port
    except ValueError:
        raise _refusal("not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not _visible_ascii(url):
        raise _refusal("must be an absolute https URL in ASCII")
    if "[" in parts.netloc and ":" not in parts.hostname:
        raise _refusal("only IPv6 addresses are written in brackets")
    return parts


def _visible_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def matches(parts: SplitResult, pattern: str) -> bool:
    """Return whether a URL matches `scheme://host[:port]`, where `*.` stands for one or more labels."""
    allowed = urlsplit(pattern)
    host, allowed_host = parts.hostname or "", allowed.hostname or ""
    same_host = host.endswith(allowed_host[1:]) if allowed_host.startswith("*.") else host == allowed_host
    return same_host and parts.scheme == allowed.scheme and _port(parts) == _port(allowed)


def _port(parts: SplitResult) -> int | None:
    return _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port


def _refusal(why: str) -> RequestRefused:
    return RequestRefused("callback_not_allowed", why, "callback_url")
