"""Addresses that a callback may connect to."""

import ipaddress
import socket

import pytest

from bridge.adapters.callbacks.address_guard import ForbiddenAddress, guarded_sockets
from bridge.core.addresses import client_network, is_loopback, is_metadata, is_public, may_be_called

PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]
CLOSED = [
    "0.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "127.255.0.9", "169.254.0.7", "172.16.0.1",
    "172.31.255.255", "192.0.0.9", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00::1", "fe80::1", "fec0::1",
    "ff02::1", "::ffff:0:7f00:1", "4000::1", "2a00:1450::5efe:a00:1", "2a00:1450::200:5efe:808:808",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "168.63.129.16", "169.254.169.253", "169.254.170.2", "169.254.170.23", "100.100.100.200",
    "192.0.0.192", "fd00:ec2::254", "fd00:ec2::253", "fd00:ec2::23", "fd20:ce::254",
    "::ffff:169.254.169.254", "::ffff:168.63.129.16",
]  # fmt: skip
METADATA_IN_DISGUISE = [
    "64:ff9b::a9fe:a9fe", "::ffff:0:a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0",
    "2002:a9fe:a9fe::", "::169.254.169.254",
    "2001:0:a9fe:a9fe::1", "2001:0:1:1:0:0:5601:5601",  # Teredo: the server, and the client with inverted bits
    "2a00:1450::5efe:a9fe:a9fe", "fe80::200:5efe:a9fe:a9fe",  # ISATAP
]  # fmt: skip


def dial(address: str, *, allow_private: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = (address, 443, 0, 0) if ":" in address else (address, 443)
    guarded_sockets(allow_private=allow_private)((family, socket.SOCK_STREAM, 6, "", target)).close()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str):
    assert is_public(ipaddress.ip_address(address))
    dial(address, allow_private=False)


@pytest.mark.parametrize("address", CLOSED)
def test_private_networks_are_forbidden_in_every_embedding(address: str):
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(ForbiddenAddress):
        dial(address, allow_private=False)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "192.168.7.7", "::1", "fd00::1", "fe80::1%lo"])
def test_private_networks_are_allowed_where_configured(address: str):
    dial(address, allow_private=True)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("address", METADATA)
def test_metadata_services_are_always_forbidden(address: str, allow_private: bool):
    assert is_metadata(ipaddress.ip_address(address))
    with pytest.raises(ForbiddenAddress):
        dial(address, allow_private=allow_private)


@pytest.mark.parametrize("address", METADATA_IN_DISGUISE)
def test_metadata_services_are_forbidden_inside_other_addresses(address: str):
    """NAT64, 6to4, Teredo, and ISATAP reach the IPv4 address that they embed."""
    assert is_metadata(ipaddress.ip_address(address))
    assert not may_be_called(ipaddress.ip_address(address), allow_private=True)
    with pytest.raises(ForbiddenAddress):
        dial(address, allow_private=True)


PLAIN = [("10.0.0.1", True), ("::1", True), ("fd00::1", True), ("8.8.8.8", False), ("2606:4700:4700::1111", False)]


@pytest.mark.parametrize(("address", "inside"), [*PLAIN, ("::ffff:8.8.8.8", False), ("::ffff:10.0.0.1", True)])
def test_plain_http_is_allowed_only_to_private_networks(address: str, inside: bool):
    assert may_be_called(ipaddress.ip_address(address), allow_private=True, plain=True) is inside
    assert not may_be_called(ipaddress.ip_address(address), allow_private=False, plain=True)


def test_own_ports_are_forbidden_at_every_address_of_this_machine():
    """A callback to one of the bridge's own hooks would create a run, which has a callback …"""
    ours = guarded_sockets(allow_private=True, own_ports={8080})
    for address in ("127.0.0.1", "127.8.8.8", "0.0.0.0"):
        with pytest.raises(ForbiddenAddress):
            ours((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 8080)))
        ours((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 8081))).close()
    ours((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.99.98.97", 8080))).close()


def test_text_that_is_not_an_address_is_forbidden():
    with pytest.raises(ValueError, match="does not appear"):
        dial("metadata.internal", allow_private=True)


def test_a_refusal_is_a_connection_error_without_details():
    with pytest.raises(OSError, match="not permitted") as caught:
        dial("10.20.30.40", allow_private=False)
    assert "10.20" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "::1", "[::1]"])
def test_addresses_that_never_leave_the_machine_are_loopback(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.7", "localhost.example.com", "127.1"])
def test_other_addresses_are_not_loopback(host: str):
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("/run/bridge.sock", "unknown"),
    ],
)
def test_unauthenticated_callers_are_counted_by_network(remote: str | None, counted: str) -> None:
    """A host with an IPv6 network has more addresses than could be counted one by one."""
    assert client_network(remote) == counted
