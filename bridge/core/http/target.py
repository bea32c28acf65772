"""Validate what a client needs to call an HTTP server: its URL, and a token.

No message here repeats a URL or a token, because it may be secret.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def check_base_url(url: str) -> str:
    """Return an http or https URL to which paths can be appended, without its trailing slash. Raise `ValueError`."""
    if "?" in url or "#" in url:
        raise ValueError("must not contain a query or a fragment")
    return check_http_url(url).rstrip("/")


def check_http_url(url: str) -> str:
    """Return an absolute http or https URL. Raise `ValueError` if it is not one."""
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute URL such as https://example.com")
    check_host(parts.hostname)
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    return url


def check_host(host: str) -> str:
    """Return a host name or IP address. Raise `ValueError` if it is neither.

    A name with an empty or an overlong label cannot be resolved: libraries raise an error instead of a lookup failure.
    """
    if not _is_address(host) and not _HOST_NAME.fullmatch(_in_ascii(host)):
        raise ValueError(
            "the host must be an IP address, or a name whose parts between dots are 1 to 63 letters, digits, `-` or `_`"
        )
    return host


def check_token(token: str) -> str:
    """Return a token. Raise `ValueError` if it does not fit into an HTTP header."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("must be printable ASCII without spaces, and not empty")
    return token


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raise `ValueError` if it is malformed, or not ASCII."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if the port is not a number
    except ValueError:
        raise ValueError("is not a URL; special characters in user and password are percent-encoded") from None
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("must be ASCII without spaces; other characters are percent-encoded")
    return parts


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _in_ascii(host: str) -> str:
    """Return the name in IDNA form; an empty string if it has none."""
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
