"""Detect requests that a website in a local browser sends to an API without clients.

Browsers send a website's requests to loopback addresses as well. DNS rebinding shows in `Host`, which contains the
website's name; anything else shows in `Origin` or `Sec-Fetch-Site`, which browsers set and scripts cannot.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from bridge.core.addresses import is_loopback

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]*)?")
_SAME_SITE = frozenset({"same-origin", "same-site", "none"})


def names_loopback(hosts: Sequence[str]) -> bool:
    """Return whether there is a `Host` header and each is a loopback name or address, with or without a port."""
    return bool(hosts) and all(_is_loopback_host(host) for host in hosts)


def comes_from_other_site(origins: Sequence[str], fetch_sites: Sequence[str]) -> bool:
    """Return whether a browser sent this for another site, by the headers `Origin` and `Sec-Fetch-Site`.

    Without either, the caller is not a browser, or is a page of this bridge. `Origin: null` may be any site.
    """
    return not (all(map(_is_loopback_origin, origins)) and _SAME_SITE.issuperset(fetch_sites))


def _is_loopback_host(host: str) -> bool:
    match = _HOST.fullmatch(host.strip())
    return match is not None and _is_loopback_name(match[1])


def _is_loopback_name(name: str) -> bool:
    name = name.lower().removesuffix(".")
    return is_loopback(name) or name.endswith(".localhost")


def _is_loopback_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and _is_loopback_host(parts.netloc)
