"""Acks many messages with one frame, because a batch of requests becomes durable at once.

A multiple ack covers all messages up to a tag, so it names the last tag before the first open message. Messages
stored beyond that are acked individually, and no ack waits for an earlier message.
"""

import asyncio
from contextlib import suppress

import structlog
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.abc import AbstractChannel

log = structlog.get_logger()


class Acks:
    """Acks the messages of one channel."""

    def __init__(self) -> None:
        self._open: dict[int, AbstractChannel] = {}  # by delivery tag, in the order of arrival
        self._done: list[int] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, message: AbstractIncomingMessage) -> None:
        """Register a message; no ack covers it until it is done."""
        self._open[_tag(message)] = message.channel

    def done(self, message: AbstractIncomingMessage) -> None:
        """Ack a stored message, together with all others stored at the same moment."""
        del self._open[_tag(message)]
        self._done.append(_tag(message))
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

    async def reject(self, message: AbstractIncomingMessage) -> None:
        """Have the broker dead-letter a message."""
        with suppress(ChannelInvalidStateError, AMQPError):  # then the broker delivers it again
            await message.channel.basic_reject(_tag(message), requeue=False, wait=False)
        self._open.pop(_tag(message), None)

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


def _tag(message: AbstractIncomingMessage) -> int:
    assert message.delivery_tag is not None, "only messages fetched with basic.get have none"
    return message.delivery_tag
