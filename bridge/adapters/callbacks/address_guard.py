"""Address check at the socket, before it connects.

The check applies to the address that is connected to, after name resolution and for literals alike, so that neither a
changing DNS answer nor a numeric address circumvents it. A custom resolver would never see literals.
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
    """The address is not permitted."""


def guarded_sockets(*, allow_private: bool, own_ports: Container[int] = (), plain: bool = False) -> SocketFactory:
    """Return a socket factory that raises `ForbiddenAddress` instead of connecting to a forbidden address.

    `plain`: for connections without TLS, which are permitted in closed networks only. `own_ports`: the ports on which
    this process listens; they are never called on any address of this machine.
    """

    def open_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        address = ipaddress.ip_address(str(target[0]).partition("%")[0])
        is_self = target[1] in own_ports and _is_local(family, target)
        if is_self or not may_be_called(address, allow_private=allow_private, plain=plain):
            raise ForbiddenAddress(errno.EACCES, "address not permitted")
        return socket.socket(family, kind, protocol)

    return open_socket


def _is_local(family: int, target: tuple[Any, ...]) -> bool:
    """Return whether the address belongs to this machine: only such addresses can be bound."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((target[0], 0, *target[2:]))
        except OSError:
            return False
    return True
