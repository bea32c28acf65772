"""The last check of an address, at the socket that is about to dial it.

It is made on the very address, after name resolution and for literals alike, so that neither a changing DNS answer nor
an address written as a number gets around it. A resolver of our own would never be asked about literals.
"""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from bridge.core.addresses import may_be_called

AddressInfo = tuple[Any, ...]
SocketFactory = Callable[[AddressInfo], socket.socket]


class ForbiddenAddress(OSError):
    """The address may not be dialled."""


def guarded_sockets(*, allow_private: bool) -> SocketFactory:
    """A socket factory that raises `ForbiddenAddress` before anything is dialled."""

    def open_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        if not may_be_called(address, allow_private=allow_private):
            raise ForbiddenAddress(errno.EACCES, "this address may not be called")
        return socket.socket(family, kind, protocol)

    return open_socket
