"""Acks for many messages with one frame: a batch of requests becomes durable at the same moment.

An ack may speak for all messages up to one, so it names the last of those before which nothing is open; what is done
beyond that is acked alone, and nothing waits for what came before it.
"""

import asyncio
from contextlib import suppress

import structlog
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.abc import AbstractChannel

log = structlog.get_logger()


class Acks:
    """The acks of one channel's messages."""

    def __init__(self) -> None:
        self._open: dict[int, AbstractChannel] = {}  # by delivery tag, in the order in which they came
        self._done: list[int] = []
        self._writing: asyncio.Task[None] | None = None

    def came(self, message: AbstractIncomingMessage) -> None:
        """A message came; until it is done no ack may speak for it."""
        self._open[_tag(message)] = message.channel

    def done(self, message: AbstractIncomingMessage) -> None:
        """A message is stored: ack it, together with all that are stored at the same moment."""
        del self._open[_tag(message)]
        self._done.append(_tag(message))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(message.channel), name="acks")

    @property
    def open(self) -> bool:
        """Whether there are messages that are neither stored nor returned."""
        return bool(self._open)

    async def return_open(self) -> None:
        """Return every message that is not done to the queue; on a channel that died the broker does so itself."""
        returned, self._open = list(self._open.items()), {}
        for tag, channel in returned:
            try:
                await channel.basic_nack(tag, requeue=True, wait=False)
            except (ChannelInvalidStateError, AMQPError):
                return

    async def reject(self, message: AbstractIncomingMessage) -> None:
        """Have the broker move a message to where the queue's dead letters go."""
        with suppress(ChannelInvalidStateError, AMQPError):  # then the broker delivers it again
            await message.channel.basic_reject(_tag(message), requeue=False, wait=False)
        self._open.pop(_tag(message), None)

    async def written(self) -> None:
        """Wait until all that is done is acked."""
        if self._writing is not None:
            await self._writing

    async def _write(self, channel: AbstractChannel) -> None:
        """On a channel that died acks are not possible, and never on another one (406)."""
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
    assert message.delivery_tag is not None, "only messages that are got by hand have none"
    return message.delivery_tag
