"""Forbidden addresses: none is connected to in any spelling or by any route, counted at the socket."""

import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.core.delivery.outcome import Retryable, SendResult, Undeliverable
from tests.fakes import HandClock, a_delivery

IPV4 = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1",
    "127.0.1.1", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255",
)  # fmt: skip
IPV6 = (
    "::", "::1", "::2", "::ffff:8.8.8.8", "::ffff:0:808:808", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:10::1", "2001:db8::1", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::23",
    "fd00:ec2::254", "fd12:3456:789a::1", "fd20:ce::254", "fe80::1", "febf::1", "fec0::1", "ff02::1", "ff0e::1",
    "2a00:1450::5efe:808:808", "2a00:1450::200:5efe:808:808", "8000::1", "::7f00:1", "1::1",
)  # fmt: skip
TABLE = IPV4 + IPV6
PUBLIC = "8.8.8.8"
REFUSED = Undeliverable("address not permitted")


def embeddings(address: str) -> Iterator[str]:
    """The ways in which IPv6 embeds an IPv4 address: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP."""
    number = int(ipaddress.IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    for prefix in ("::ffff:", "::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "2a00:1450::5efe:"):
        yield f"{prefix}{high:x}:{low:x}"
    yield f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::"
    yield f"2002:{high:x}:{low:x}::1"
    yield f"2001:0:{high:x}:{low:x}::1"
    yield f"2001:0:808:808:0:0:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}"


class FakeResolver(AbstractResolver):
    """A resolver of the test: each lookup of a name returns the next of its answers, and the last one from then on."""

    def __init__(self, responses: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(lookups) for name, lookups in responses.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        lookups = self._answers[host]
        addresses = lookups.pop(0) if len(lookups) > 1 else lookups[0]
        return [_result(host, port, address) for address in addresses]

    async def close(self) -> None:
        pass


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)


class ConnectionAttempts:
    """Every connection attempt of this process; those that would leave the machine are recorded and stopped."""

    def __init__(self) -> None:
        self.dialled: list[str] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def recorded(self) -> Iterator[list[str]]:
        self.dialled = []
        try:
            yield self.dialled
        finally:
            self.dialled = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.connect" or self.dialled is None or not isinstance(arguments[1], tuple):
            return
        address = str(arguments[1][0])
        self.dialled.append(address)
        if not ipaddress.ip_address(address).is_loopback:
            raise OSError(101, "stopped by the test")


WIRE = ConnectionAttempts()  # an audit hook stays for the lifetime of the process, so there is only one


@asynccontextmanager
async def sending(
    responses: Mapping[str, Sequence[Sequence[str]]] | None = None, *, allow_private: bool = False
) -> AsyncIterator[CallbackSender]:
    async with callback_sessions(allow_private=allow_private, resolver=FakeResolver(responses or {})) as sessions:
        yield CallbackSender(sessions, SigningSecrets(), "0", HandClock(0.0))


def to(url: str) -> Delivery:
    return replace(a_delivery(1), destination=Destination(Channel.CALLBACK, url))


def literal(address: str) -> str:
    return f"http://[{address}]/" if ":" in address else f"http://{address}/"


async def answers_to(sender: CallbackSender, urls: Iterable[str]) -> set[SendResult]:
    return {await sender.send(to(url)) for url in urls}


async def test_as_numbers():
    """61 addresses in the URL itself: 61 cases."""
    assert len(TABLE) == 61
    with WIRE.recorded() as dialled:
        async with sending() as sender:
            assert await answers_to(sender, map(literal, TABLE)) == {REFUSED}
    assert dialled == []


async def test_through_a_name():
    """61 names that resolve to one of the addresses: 61 cases."""
    names = {f"n{number}.example": [[address]] for number, address in enumerate(TABLE)}
    with WIRE.recorded() as dialled:
        async with sending(names) as sender:
            assert await answers_to(sender, [f"https://{name}/" for name in names]) == {REFUSED}
    assert dialled == []


async def test_through_a_name_that_also_resolves_to_a_public_address():
    """61 names with two addresses, the public one first or last: 122 cases. Only the public one is connected to."""
    both = [[PUBLIC, address] for address in TABLE] + [[address, PUBLIC] for address in TABLE]
    names = {f"n{number}.example": [addresses] for number, addresses in enumerate(both)}
    assert len(names) == 122
    with WIRE.recorded() as dialled:
        async with sending(names) as sender:
            responses = await answers_to(sender, [f"https://{name}/" for name in names])
    assert responses <= {Retryable("connection failed"), REFUSED}  # the test stops the public one
    assert (set(dialled), len(dialled) >= 122) == ({PUBLIC}, True)


async def test_through_a_name_that_changes_its_address():
    """61 names that are public at the first lookup and forbidden at the second: 61 cases of rebinding."""
    for address in TABLE:
        names = FakeResolver({"changing.example": [[PUBLIC], [address]]})
        with WIRE.recorded() as dialled:
            for result in (Retryable("connection failed"), REFUSED):
                async with callback_sessions(allow_private=False, resolver=names) as sessions:
                    sender = CallbackSender(sessions, SigningSecrets(), "0", HandClock(0.0))
                    assert await sender.send(to("https://changing.example/")) == result
        assert dialled == [PUBLIC]


async def test_through_a_redirect():
    """61 addresses in a redirect of a receiver, with each of five codes:

    305 cases. Only the receiver is connected to.
    """

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]), headers={"Location": request.query["to"]})

    app = web.Application()
    app.router.add_post("/{code}", redirect)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    cases = [(code, address) for code in (301, 302, 303, 307, 308) for address in TABLE]
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        urls = [f"http://receiver.example:{port}/{code}?to={literal(address)}" for code, address in cases]
        with WIRE.recorded() as dialled:
            async with sending({"receiver.example": [["127.0.0.1"]]}, allow_private=True) as sender:
                responses = await answers_to(sender, urls)
    finally:
        await runner.cleanup()
    assert responses == {Retryable(f"HTTP {code}") for code in (301, 302, 303, 307, 308)}
    assert (len(cases), dialled) == (305, ["127.0.0.1"] * 305)


async def test_embedded_in_an_ipv6_address():
    """31 IPv4 addresses in 10 embeddings each, as a number and through a name: 620 cases."""
    addresses = [embedded for address in IPV4 for embedded in embeddings(address)]
    names = {f"n{number}.example": [[address]] for number, address in enumerate(addresses)}
    urls = [*map(literal, addresses), *(f"https://{name}/" for name in names)]
    assert len(urls) == 620
    with WIRE.recorded() as dialled:
        async with sending(names) as sender:
            assert await answers_to(sender, urls) == {REFUSED}
    assert dialled == []


OUTSIDE = (PUBLIC, "1.1.1.1", "93.184.215.14")
OUTSIDE_IPV6 = ("2606:4700:4700::1111", "2a00:1450:4001:80b::200e")


async def test_public_addresses_without_tls_in_a_private_network():
    """5 public addresses, 3 of them in 10 embeddings each, as a number and through a name: 70 cases.

    `allow_private` permits plain HTTP only to private networks; elsewhere, events would be readable in transit.
    """
    addresses = [form for address in OUTSIDE for form in (address, *embeddings(address))] + list(OUTSIDE_IPV6)
    names = {f"n{number}.example": [[address]] for number, address in enumerate(addresses)}
    urls = [*map(literal, addresses), *(f"http://{name}/" for name in names)]
    assert len(urls) == 70
    with WIRE.recorded() as dialled:
        async with sending(names, allow_private=True) as sender:
            assert await answers_to(sender, urls) == {REFUSED}
    assert dialled == []


@pytest.mark.parametrize("allow_private", [False, True])
async def test_without_tls_only_private_addresses_of_a_name_are_connected_to(allow_private: bool):
    """A delivery may be older than the settings: an address that is no longer allowed is not connected to."""
    names = {"both.example": [[PUBLIC, "127.0.0.1"]]}
    with WIRE.recorded() as dialled:
        async with sending(names, allow_private=allow_private) as sender:
            result = await sender.send(to("http://both.example:9/"))
    assert (result, set(dialled)) == (
        (Retryable("connection failed"), {"127.0.0.1"}) if allow_private else (REFUSED, set())
    )


METADATA = (
    "169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200",
    "192.0.0.192",
)  # fmt: skip


async def test_metadata_services_in_a_private_network():
    """7 metadata addresses, plain and in 10 embeddings each, as a number and through a name: 154 cases.

    `allow_private` permits private networks, but never these.
    """
    addresses = [form for address in METADATA for form in (address, *embeddings(address))]
    names = {f"n{number}.example": [[address]] for number, address in enumerate(addresses)}
    urls = [*map(literal, addresses), *(f"http://{name}/" for name in names)]
    assert len(urls) == 154
    with WIRE.recorded() as dialled:
        async with sending(names, allow_private=True) as sender:
            assert await answers_to(sender, urls) == {REFUSED}
    assert dialled == []


@pytest.mark.parametrize("host", ["0x7f.1", "0x7f000001", "0x08.8.8.8", "%31%32%37.0.0.1", "localhost."])
async def test_an_obfuscated_number_is_not_resolved(host: str):
    """The system resolver takes `0x7f.1` for 127.0.0.1; a resolver that would answer is never called."""
    with WIRE.recorded() as dialled:
        async with sending({host: [["127.0.0.1"]]}, allow_private=True) as sender:
            assert await sender.send(to(f"http://{host}/")) == REFUSED
    assert dialled == []
