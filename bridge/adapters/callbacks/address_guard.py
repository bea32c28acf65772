"""The last check of an address, at the socket that is about to dial it.

It is made on the very address, after name resolution and for literals alike, so that neither a changing DNS answer nor
an address written as a number gets around it. A resolver of our own would never be asked about literals.
"""

import errno
import ipaddress
import socket
from collections.abc import Callable, Container
from typing import Any

from bridge.core.addresses import may_be_called

AddressInfo = tuple[Any, ...]
SocketFactory = Callable[[AddressInfo], socket.socket]


class ForbiddenAddress(OSError):
    """The address may not be dialled."""


def guarded_sockets(*, allow_private: bool, own_ports: Container[int] = (), plain: bool = False) -> SocketFactory:
    """A socket factory that raises `ForbiddenAddress` before anything is dialled.

    `plain`: for connections without TLS, which are for closed networks only. `own_ports`: on these this process
    listens, so no address of this machine is dialled there, private or not.
    """

    def open_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        ourselves = target[1] in own_ports and _is_ours(family, target)
        if ourselves or not may_be_called(address, allow_private=allow_private, plain=plain):
            raise ForbiddenAddress(errno.EACCES, "this address may not be called")
        return socket.socket(family, kind, protocol)

    return open_socket


def _is_ours(family: int, target: tuple[Any, ...]) -> bool:
    """Whether an address is one of this machine's: only those can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((target[0], 0, *target[2:]))
        except OSError:
            return False
    return True
