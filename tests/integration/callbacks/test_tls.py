"""Callbacks over TLS: a receiver that cannot be verified receives nothing, not even in the clear."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.adapters.http_client import UNTRUSTED
from bridge.core.delivery.model import Channel, Destination
from bridge.core.delivery.outcome import Confirmed, Retryable, SendResult
from tests.certificates import DAY, Authority, Key, make_certificate, new_key, write_certificate, write_key
from tests.fakes import HandClock, a_delivery

HOST = "receiver.example"


class Receiver:
    """A server for one connection, in a thread, that records what it receives; without `tls` it has no TLS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.got = b""
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        connection, _ = self._listener.accept()
        with self._listener, connection, contextlib.suppress(OSError), self._stream(connection) as stream:
            self.got = stream.recv(65_536)
            stream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def _stream(self, connection: socket.socket) -> socket.socket:
        """Raises `OSError` if the TLS handshake fails."""
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection


@asynccontextmanager
async def serving(receiver: Receiver) -> AsyncIterator[Receiver]:
    thread = asyncio.create_task(asyncio.to_thread(receiver.serve))
    yield receiver
    await thread


class Everywhere(AbstractResolver):
    """Every name resolves to this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class Broken(Everywhere):
    """A resolver that knows no name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Silent(Everywhere):
    """A resolver that never responds."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        await asyncio.Event().wait()
        raise AssertionError


Serve = Callable[[Authority, Key], x509.Certificate]
BAD: dict[str, Serve] = {
    "expired": lambda authority, key: authority.sign(HOST, key, 3 * DAY),
    "not valid yet": lambda authority, key: authority.sign(HOST, key, -DAY),
    "another host": lambda authority, key: authority.sign("other.example", key, DAY),
    "a host with only the same suffix": lambda authority, key: authority.sign(f"x{HOST}", key, DAY),
    "self-signed": lambda _, key: make_certificate(HOST, key, key, HOST),
    "an unknown authority": lambda _, key: Authority().sign(HOST, key, DAY),
}


@asynccontextmanager
async def receiving(folder: Path, serve: Serve) -> AsyncIterator[tuple[Receiver, ssl.SSLContext]]:
    """The receiver, and the TLS context of a client that trusts its authority."""
    authority, key = Authority(), new_key()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        write_certificate(folder / "chain.pem", serve(authority, key)), write_key(folder / "key.pem", key)
    )
    trusted = authority.certificate.public_bytes(serialization.Encoding.PEM).decode()
    async with serving(Receiver(context)) as receiver:
        yield receiver, ssl.create_default_context(cadata=trusted)


async def send(
    url: str, tls: ssl.SSLContext | None = None, names: AbstractResolver | None = None, time_limit: float = 5.0
) -> SendResult:
    names = names or Everywhere()
    async with callback_sessions(allow_private=True, resolver=names, tls=tls, time_limit=time_limit) as sessions:
        sender = CallbackSender(sessions, SigningSecrets(), "0", HandClock(0.0))
        return await sender.send(replace(a_delivery(1), destination=Destination(Channel.CALLBACK, url)))


async def test_a_verified_receiver_receives_the_event(tmp_path: Path):
    async with receiving(tmp_path, lambda authority, key: authority.sign(HOST, key, DAY)) as (
        receiver,
        webhook_reliability,
    ):
        assert await send(f"https://{HOST}:{receiver.port}/", webhook_reliability) == Confirmed()
    assert receiver.got.startswith(b"POST /")


@pytest.mark.parametrize("certificate", BAD)
async def test_a_receiver_with_an_invalid_certificate_receives_nothing(tmp_path: Path, certificate: str):
    async with receiving(tmp_path, BAD[certificate]) as (receiver, webhook_reliability):
        assert await send(f"https://{HOST}:{receiver.port}/", webhook_reliability) == Retryable(UNTRUSTED)
    assert receiver.got == b""


async def test_by_default_only_the_authorities_of_the_system_are_trusted(tmp_path: Path):
    async with receiving(tmp_path, lambda authority, key: authority.sign(HOST, key, DAY)) as (receiver, _):
        assert await send(f"https://{HOST}:{receiver.port}/") == Retryable(UNTRUSTED)
    assert receiver.got == b""


async def test_a_receiver_without_tls_receives_nothing_in_the_clear():
    async with serving(Receiver()) as receiver:
        assert await send(f"https://{HOST}:{receiver.port}/") == Retryable("TLS handshake failed")
    assert receiver.got
    assert b"POST" not in receiver.got


async def test_an_unknown_name_is_retried():
    assert await send(f"https://{HOST}/", names=Broken()) == Retryable("host name not found")


async def test_a_silent_resolver_costs_one_attempt():
    assert await send(f"https://{HOST}/", names=Silent(), time_limit=0.05) == Retryable("timed out")
