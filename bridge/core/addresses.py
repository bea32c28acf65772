"""Classify network addresses: public, loopback, or cloud metadata.

`is_global` alone is not enough: Python counts multicast, NAT64, and other embeddings of private addresses as global.
"""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_DENIED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # the only IPv6 space allocated for global unicast
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "169.254.169.253",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::23",
        "fd00:ec2::253",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
_EMBEDS_IN_LAST_BITS = tuple(
    ipaddress.ip_network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, with or without brackets, is loopback."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def client_network(remote: str | None) -> str:
    """Return the key for limits per caller: its IPv4 address or IPv6 /64, because an IPv6 host has many addresses."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def is_public(address: Address) -> bool:
    """Return whether an address is on the public internet and embeds no other address."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or _isatap_marker(address) in _ISATAP):
        return False
    return address.is_global and not any(
        address in network for network in _DENIED if network.version == address.version
    )


def is_metadata(address: Address) -> bool:
    """Return whether an address is, or embeds, a cloud metadata service; `allow_private` does not permit them."""
    return address in _METADATA or any(embedded in _METADATA for embedded in _embedded(address))


def may_be_called(address: Address, *, allow_private: bool, plain: bool = False) -> bool:
    """Return whether a callback may be sent to an address; `plain`: over plain http, only to private ones."""
    if is_metadata(address) or (plain and _reaches_public(address)):
        return False
    return allow_private or (is_public(address) and not plain)


def _reaches_public(address: Address) -> bool:
    """Return whether an address is, or embeds, a public one."""
    return any(is_public(candidate) for candidate in (address, *_embedded(address)))


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address may embed."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _EMBEDS_IN_LAST_BITS) or _isatap_marker(address) in _ISATAP:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address in _LOCAL_NAT64:
        found += _around_bit_64(address)
    return [embedded for embedded in found if embedded is not None]


def _around_bit_64(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses after a NAT64 prefix of 48, 56, or 64 bits; bits 64 to 71 are skipped (RFC 6052)."""
    bits = f"{int(address):0128b}"
    without = bits[:64] + bits[72:]
    return [ipaddress.IPv4Address(int(without[start : start + 32], 2)) for start in (48, 56, 64)]


def _isatap_marker(address: ipaddress.IPv6Address) -> int:
    """Return bits 64 to 95, which mark an ISATAP address: one whose last 32 bits are an IPv4 address."""
    return (int(address) >> 32) & 0xFFFFFFFF
