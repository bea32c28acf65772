"""Consumes from one channel, pauses while the store is unavailable, and requeues messages that were not stored.

Every return to the broker raises a message's delivery count, on RabbitMQ before 4.3 also one by `basic.nack`. So no
message is held while it cannot be stored: the consumer is cancelled first and everything is returned once. Consuming
starts again when the store has proved that it can be written, with one message at a time until one is stored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage

from bridge.adapters.amqp.acks import Acks
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.memory import MessageMemory
from bridge.core.errors import FATAL, StoreUnavailable

PROBE_INTERVAL = 1.0  # seconds between two probes of a store that is unavailable
LONGEST_PAUSE = 60.0  # seconds before a store that passed its probe, and then failed again, is probed once more
LARGEST_PROBE = 4 * 1024 * 1024  # bytes
DRAIN_LIMIT = 10.0  # seconds for the callbacks in hand, which take milliseconds

Take = Callable[[InboundMessage], Awaitable[None]]
"""Stores a message; raises `StoreUnavailable`."""

ProbeStore = Callable[[int], Awaitable[None]]
"""Writes so many bytes to the store and removes them; raises `StoreUnavailable`."""

log = structlog.get_logger()


@dataclass
class Backpressure:
    """How carefully to consume after messages could not be stored. Outlives connections.

    `store_in_doubt`: take nothing before the store has passed a probe of `size` bytes. `one_by_one`: take
    messages one at a time until one is stored. `failures`: how often in a row a store failed that had passed its probe.
    """

    store_in_doubt: bool = False
    one_by_one: bool = False
    failures: int = 0
    size: int = 0

    @property
    def pause(self) -> float:
        """Seconds to wait before the store is probed."""
        return min(PROBE_INTERVAL * 2.0 ** min(self.failures - 1, 10), LONGEST_PAUSE) if self.failures else 0.0

    def suspect_store(self) -> None:
        """Record that messages in progress could not be stored in time."""
        self.store_in_doubt = True
        self.one_by_one = True

    def store_failed(self) -> None:
        """Record that a write to the store failed."""
        self.failures += 1
        self.suspect_store()

    def stored(self) -> bool:
        """Record a stored message; return whether it was taken alone."""
        self.failures = self.size = 0
        alone, self.one_by_one = self.one_by_one, False
        return alone


class ChannelConsumer:
    """Consumes the messages of one channel. `fail` receives unexpected exceptions."""

    def __init__(
        self,
        channel: AbstractChannel,
        queue: str,
        prefetch: int,
        backpressure: Backpressure,
        take: Take,
        probe: ProbeStore,
        fail: Callable[[Exception], None],
        memory: MessageMemory,
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._prefetch = prefetch
        self._backpressure = backpressure
        self._take = take
        self._probe = probe
        self._fail = fail
        self._memory = memory
        self._acks = Acks()
        self._tags: list[str] = []
        self._widened = False
        self._changed = asyncio.Event()
        self._in_progress: set[asyncio.Task[None]] = set()

    @property
    def consuming(self) -> bool:
        """Whether the broker delivers messages."""
        return bool(self._tags)

    @property
    def in_progress(self) -> int:
        """How many messages are being stored."""
        return len(self._in_progress)

    async def start(self) -> None:
        """Start consuming, unless the store is in doubt."""
        if self._backpressure.store_in_doubt:
            return
        self._widened = not self._backpressure.one_by_one
        await self._consume(self._prefetch if self._widened else 1)

    async def run(self) -> None:
        """Pause and resume as the store permits, forever."""
        while True:
            if not self._tags:
                await self._until_store_works()
                await self.start()
            await self._changed.wait()
            self._changed.clear()
            if self._backpressure.store_in_doubt:
                await self._halt()
            elif not self._widened and not self._backpressure.one_by_one:
                await self._widen()

    async def finish(self) -> None:
        """Stop consuming and finish the messages in progress."""
        with suppress(*TRANSIENT_ERRORS):
            async with asyncio.timeout(DRAIN_LIMIT):
                await self._halt()

    def lost(self) -> None:
        """Record that the channel closed with messages in progress."""
        if self._acks.open:
            self._backpressure.suspect_store()

    async def _consume(self, prefetch: int) -> None:
        await self._channel.basic_qos(prefetch_count=prefetch)
        consuming = await self._channel.basic_consume(self._queue, self._on_message)
        assert consuming.consumer_tag is not None
        self._tags.append(consuming.consumer_tag)

    async def _widen(self) -> None:
        """Restore the usual prefetch count with a second consumer, since a consumer cannot change its own.

        Canceling the first would return the message that is on its way to it, and raise its count.
        """
        self._widened = True
        if self._prefetch > 1:
            await self._consume(self._prefetch - 1)

    async def _halt(self) -> None:
        """Stop consuming and requeue all messages that are not stored by then at once."""
        while self._tags:
            await self._channel.basic_cancel(self._tags.pop())
        # The library starts the callbacks of what was delivered a few steps late; by the answer all have begun.
        await self._channel.basic_qos(prefetch_count=1)
        while self._in_progress:
            await asyncio.wait(self._in_progress)
        await self._acks.written()
        await self._acks.return_open()

    async def _until_store_works(self) -> None:
        backpressure = self._backpressure
        if not backpressure.store_in_doubt:
            return
        await asyncio.sleep(backpressure.pause)
        reason = None
        while True:
            try:
                await self._probe(min(backpressure.size, LARGEST_PROBE))
            except StoreUnavailable as error:
                if reason is None:
                    log.warning("consumer_paused", reason=str(error))
                reason = str(error)
                await asyncio.sleep(PROBE_INTERVAL)
            else:
                break
        backpressure.store_in_doubt = False
        log.info("consumer_resumed")

    async def _on_message(self, delivered: DeliveredMessage) -> None:
        message = InboundMessage.read(delivered)
        task = asyncio.current_task()
        assert task is not None
        self._in_progress.add(task)
        task.add_done_callback(self._in_progress.discard)
        try:
            self._acks.add(message)
            await self._take_unless_in_doubt(message)
        except StoreUnavailable as error:
            log.debug("message_requeued", message_id=message.message_id, reason=str(error))
            self._backpressure.size += len(message.body)
            if not self._backpressure.store_in_doubt:
                self._backpressure.store_failed()
            self._changed.set()
        except FATAL as error:
            self._fail(error)  # unacked: the next process gets the message
        except Exception as error:  # noqa: BLE001 - the library would only log it, and keep the message unacked forever
            self._fail(error)
            await self._acks.reject(message)
        else:
            self._acks.done(message)
            if self._backpressure.stored():
                self._changed.set()
        finally:
            self._memory.release(message.delivery_tag)

    async def _take_unless_in_doubt(self, message: InboundMessage) -> None:
        if self._backpressure.store_in_doubt:  # delivered before the broker processed the cancel
            raise StoreUnavailable("storage is unavailable")
        await self._take(message)
