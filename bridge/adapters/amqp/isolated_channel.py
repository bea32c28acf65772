"""A separate connection for operations that the broker may refuse by closing the channel or the connection.

It carries one operation at a time, is opened on first use, and is reopened after the broker closes it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, DeliveryError
from aiormq.exceptions import ChannelClosed, ConnectionInternalError
from pamqp import commands as spec

from bridge.adapters.amqp.connection import CLOSE_TIMEOUT, being_cancelled
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS
from bridge.adapters.amqp.outbound import OutboundMessage

MAX_WAITING = 20  # callers; further ones are refused, so that they do not occupy the slots of other deliveries
MAX_DISCONNECTED = 1000  # remembered names of direct reply-to clients

Connect = Callable[[], Awaitable[AbstractConnection]]


@dataclass(frozen=True, slots=True)
class Publication:
    """A message and where it goes."""

    message: OutboundMessage
    exchange: str
    routing_key: str
    mandatory: bool

    async def publish(self, channel: aiormq.Channel) -> None:
        """Return when the broker confirms the message; raise what the library raises otherwise."""
        await channel.basic_publish(
            self.message.body,
            exchange=self.exchange,
            routing_key=self.routing_key,
            properties=self.message.properties,
            mandatory=self.mandatory,
            wait=False,  # do not wait for the socket to drain; the confirm is awaited instead
        )


class _AnyQueue(spec.Queue.Declare):
    """A declaration without the library's validation, which rejects the names of direct reply-to clients (`…==`)."""

    def validate(self) -> None:
        """Leave validation to the broker."""


class IsolatedChannel:
    """One connection and one channel, for one caller at a time."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._waiting = 0
        self._disconnected: dict[str, None] = {}

    @property
    def full(self) -> bool:
        """Whether too many callers wait; another one should retry later."""
        return self._waiting >= MAX_WAITING

    async def publish(self, publication: Publication) -> None:
        """Publish alone, so that a refusal can only concern this message."""
        async with self._own_channel() as channel:
            await publication.publish(channel)

    async def has_client(self, name: str) -> bool:
        """Return whether a client still waits under this direct reply-to name; a disconnected one never returns.

        The broker closes the connection for a name that it did not issue.
        """
        if name in self._disconnected:
            return False
        try:
            async with self._own_channel() as channel:
                await channel.rpc(_AnyQueue(queue=name, passive=True))
        except (ChannelNotFoundEntity, ConnectionInternalError):
            self._disconnected[name] = None
            if len(self._disconnected) > MAX_DISCONNECTED:
                del self._disconnected[next(iter(self._disconnected))]
            return False
        return True

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await connection.close()

    @asynccontextmanager
    async def _own_channel(self) -> AsyncIterator[aiormq.Channel]:
        self._waiting += 1
        try:
            async with self._lock:
                channel = await self._open()
                try:
                    yield channel
                except DeliveryError:
                    raise
                except ChannelClosed:
                    self._channel = None
                    raise
                except BaseException:
                    self._channel = None  # closed, or about to be
                    if not being_cancelled():  # the connection may have ended as well, without having noticed yet
                        await self._abandon()
                    raise
        finally:
            self._waiting -= 1

    async def _abandon(self) -> None:
        with suppress(*TRANSIENT_ERRORS):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.close()

    async def _open(self) -> aiormq.Channel:
        if self._connection is None or self._connection.is_closed:
            self._connection, self._channel = await self._connect(), None
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        return cast("aiormq.Channel", await self._channel.get_underlay_channel())
