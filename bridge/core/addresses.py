"""Which network addresses are public, and which never leave the machine: pure arithmetic on numbers.

`is_global` alone is not enough: Python counts multicast, NAT64 and other embeddings of private addresses as global.
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
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that was ever given out for the public internet
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
_EMBEDS_AT_THE_END = tuple(
    ipaddress.ip_network(network)
    for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_loopback(host: str) -> bool:
    """Whether this host name or address, with or without brackets, never leaves the machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def client_network(remote: str | None) -> str:
    """Return what an unauthenticated caller is counted by: its address, or the /64 of it, as IPv6 hosts have many."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def is_public(address: Address) -> bool:
    """Whether this is an address of the public internet and embeds no other."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _UNICAST or _middle(address) in _ISATAP):
        return False
    return address.is_global and not any(
        address in network for network in _DENIED if network.version == address.version
    )


def is_metadata(address: Address) -> bool:
    """Whether this is, or leads to, a cloud's metadata service, which stays closed even in closed networks."""
    return address in _METADATA or any(embedded in _METADATA for embedded in _embedded(address))


def may_be_called(address: Address, *, allow_private: bool, plain: bool = False) -> bool:
    """Whether a callback may be sent to this address; `plain`: by http without TLS, which stays in closed networks."""
    if is_metadata(address) or (plain and _leads_outside(address)):
        return False
    return allow_private or (is_public(address) and not plain)


def _leads_outside(address: Address) -> bool:
    """Whether this is, or is a way of writing, an address of the public internet."""
    return any(is_public(one) for one in (address, *_embedded(address)))


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address may be a way of writing."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _EMBEDS_AT_THE_END) or _middle(address) in _ISATAP:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address in _LOCAL_NAT64:
        found += _around_bit_64(address)
    return [embedded for embedded in found if embedded is not None]


def _around_bit_64(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 address behind a NAT64 prefix of 48, 56 or 64 bits, which leaves out bits 64 to 71 (RFC 6052)."""
    bits = f"{int(address):0128b}"
    without = bits[:64] + bits[72:]
    return [ipaddress.IPv4Address(int(without[start : start + 32], 2)) for start in (48, 56, 64)]


def _middle(address: ipaddress.IPv6Address) -> int:
    """Bits 64 to 95, where ISATAP says that the last 32 are an IPv4 address."""
    return (int(address) >> 32) & 0xFFFFFFFF
