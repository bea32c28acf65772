"""Which addresses a callback may be sent to, decided at the socket.

The check is made on the very address that is about to be dialled, after name resolution and for literals alike, so that
neither a changing DNS answer nor an address written as a number gets around it. `is_global` alone is not enough: Python
counts multicast, NAT64 and other embeddings of private addresses as global.
"""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressInfo = tuple[Any, ...]
SocketFactory = Callable[[AddressInfo], socket.socket]

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
_METADATA = tuple(ipaddress.ip_address(address) for address in ("169.254.169.254", "168.63.129.16", "fd00:ec2::254"))


class ForbiddenAddress(OSError):
    """The address may not be dialled."""


def is_public(address: Address) -> bool:
    """Whether this is an address of the public internet and embeds no other."""
    return address.is_global and not any(
        address in network for network in _DENIED if network.version == address.version
    )


def is_metadata(address: Address) -> bool:
    """Whether this is a cloud's metadata service, which stays closed even where private addresses are allowed."""
    embedded = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (embedded or address) in _METADATA


def guarded_sockets(*, allow_private: bool) -> SocketFactory:
    """A socket factory that raises `ForbiddenAddress` before anything is dialled."""

    def open_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        if is_metadata(address) or not (allow_private or is_public(address)):
            raise ForbiddenAddress(errno.EACCES, "this address may not be called")
        return socket.socket(family, kind, protocol)

    return open_socket
