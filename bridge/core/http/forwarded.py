"""Find the caller behind reverse proxies, from `X-Forwarded-For`."""

import ipaddress
from collections.abc import Collection, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def forwarded_caller(peer: str, forwarded_for: Sequence[str], trusted: Collection[Network]) -> str:
    """Return the address of the caller: the last one that was not added by a trusted proxy.

    `peer` is the address of the connection, `forwarded_for` every value of the header. Each proxy appends the address
    from which it received the request, so entries before an untrusted address could be invented by the caller.
    """
    hops = [entry.strip() for value in forwarded_for for entry in value.split(",")]
    caller = peer
    while hops and _is_trusted(caller, trusted):
        address = _address(hops.pop())
        if address is None:
            break
        caller = address
    return caller


def _is_trusted(address: str, trusted: Collection[Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in trusted if network.version == (mapped or parsed).version)


def _address(entry: str) -> str | None:
    """Return the address of an entry such as `192.0.2.7`, `192.0.2.7:4711`, or `[2001:db8::7]:4711`."""
    text = entry.strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
