"""Acks many messages with one frame, because a batch of requests becomes durable at once.

A multiple ack covers all messages up to a tag, so it names the last tag before the first open message. Messages
stored beyond that are acked individually, and no ack waits for an earlier message.
"""

import asyncio
from contextlib import suppress

import structlog
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.abc import AbstractChannel

from bridge.adapters.amqp.inbound_message import InboundMessage

log = structlog.get_logger()


class Acks:
    """Acks the messages of one channel."""

    def __init__(self) -> None:
        self._open: dict[int, AbstractChannel] = {}  # by delivery tag, in the order of arrival
        self._done: list[int] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, message: InboundMessage) -> None:
        """Register a message; no ack covers it until it is done."""
        self._open[message.delivery_tag] = message.channel

    def done(self, message: InboundMessage) -> None:
        """Ack a stored message, together with all others stored at the same moment."""
        del self._open[message.delivery_tag]
        self._done.append(message.delivery_tag)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(message.channel), name="acks")

    @property
    def open(self) -> bool:
        """Whether there are messages that are neither stored nor returned."""
        return bool(self._open)

    async def return_open(self) -> None:
        """Requeue every message that is not done; on a closed channel the broker does so itself."""
        returned, self._open = list(self._open.items()), {}
        for tag, channel in returned:
            try:
                await channel.basic_nack(tag, requeue=True, wait=False)
            except (ChannelInvalidStateError, AMQPError):
                return

    async def reject(self, message: InboundMessage) -> None:
        """Have the broker dead-letter a message."""
        with suppress(ChannelInvalidStateError, AMQPError):  # then the broker delivers it again
            await message.channel.basic_reject(message.delivery_tag, requeue=False, wait=False)
        self._open.pop(message.delivery_tag, None)

    async def written(self) -> None:
        """Wait until every finished message is acked."""
        if self._writing is not None:
            await self._writing

    async def _write(self, channel: AbstractChannel) -> None:
        """Write pending acks; acks are impossible on a closed channel, and on another channel an error (406)."""
        while self._done:
            done, self._done = sorted(self._done), []
            first_open = next(iter(self._open), done[-1] + 1)
            together = [tag for tag in done if tag < first_open]
            try:
                if together:
                    await channel.basic_ack(together[-1], multiple=True, wait=False)
                for tag in done[len(together) :]:
                    await channel.basic_ack(tag, wait=False)
            except (ChannelInvalidStateError, AMQPError) as error:  # dead before the ack, or while it was being written
                log.debug("acks_lost", number=len(done), reason=type(error).__name__)
