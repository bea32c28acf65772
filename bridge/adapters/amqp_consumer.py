"""The door for messages: takes requests from the queue, and acks each as soon as it is durably stored.

A message that cannot be stored because the store is away stays unacked, so the prefetch count is the back-pressure.
The library cancels callbacks when their channel dies. That does no harm: the broker delivers the message again, and
the store knows it by its key, or by its content.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from bridge.adapters.amqp_acks import Acks
from bridge.adapters.amqp_connection import AmqpLink, LinkOptions, Session
from bridge.adapters.amqp_message import MessageRules, is_steering, read_refused, read_request, read_steering
from bridge.adapters.amqp_topology import Topology, ensure_inbound, keep_bound
from bridge.adapters.amqp_trouble import WEATHER, Reconnect
from bridge.core.errors import PostUnderWay, RequestRefused, Stale, StoreUnavailable
from bridge.ports import Accept, Health, Refuse, Steer

STORE_PAUSE = 1.0  # seconds until storing is tried again
DRAIN_LIMIT = 10.0  # seconds for the callbacks in hand, which take milliseconds
GOOD_IN_A_ROW = 50  # messages, after one that could not be decoded, until the prefetch count is the usual one again

Callback = Callable[[AbstractIncomingMessage], Awaitable[None]]

log = structlog.get_logger()


class AmqpConsumer:
    """Consumes the requests queue; `ports.Service`."""

    def __init__(
        self,
        link: LinkOptions,
        topology: Topology,
        rules: MessageRules,
        prefetch: int,
        accept: Accept,
        refuse: Refuse,
        steer: Steer,
    ) -> None:
        self._link = AmqpLink(link, "consume", self._consuming)
        self.name = self._link.name
        self._topology = topology
        self._rules = rules
        self._prefetch = prefetch
        self._accept = accept
        self._refuse = refuse
        self._steer = steer
        self._stopping = asyncio.Event()
        self._in_hand: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<AmqpConsumer: {len(self._in_hand)} messages in hand, {self._link!r}>"

    @property
    def ready(self) -> bool:
        """Whether messages are being taken."""
        return self._link.ready

    async def health(self) -> Health:
        """For the readiness check."""
        return await self._link.health()

    async def run(self) -> None:
        """Consume until stopped, through every loss of the broker; raises what a bug in a callback raised."""
        await self._link.run()

    def stop(self) -> None:
        """Take no more messages, finish those in hand, close."""
        self._stopping.set()
        self._link.stop()

    @asynccontextmanager
    async def _consuming(self, session: Session) -> AsyncIterator[None]:
        channel = await session.open_channel()
        queue = await ensure_inbound(channel, self._topology)
        # A message that cannot be decoded takes the whole connection down, again and again until the broker gives it
        # up. One message at a time, so that no other one's delivery count grows with it.
        careful = self._link.met_unreadable_frame
        await channel.set_qos(prefetch_count=1 if careful else self._prefetch, global_=False)
        acks = Acks()
        on_message = partial(self._on_message, acks)
        tag = await queue.consume(_counting(session, on_message) if careful else on_message)
        keeping = asyncio.create_task(self._keep_bound(queue))
        try:
            yield
        finally:
            keeping.cancel()
            await self._finish(queue, tag, acks)

    async def _keep_bound(self, queue: AbstractQueue) -> None:
        try:
            with suppress(*WEATHER):  # ends the session, too
                await keep_bound(queue, self._topology)
        except Exception as error:  # noqa: BLE001 - nobody else watches the task
            self._link.fail(error)

    async def _finish(self, queue: AbstractQueue, tag: str, acks: Acks) -> None:
        if not self._stopping.is_set():
            return  # the connection is lost, and its callbacks with it
        with suppress(*WEATHER):
            async with asyncio.timeout(DRAIN_LIMIT):
                await queue.cancel(tag)
                while self._in_hand:
                    await asyncio.wait(self._in_hand)
                await acks.written()

    async def _on_message(self, acks: Acks, message: AbstractIncomingMessage) -> None:
        acks.came(message)
        task = asyncio.current_task()
        assert task is not None
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)
        try:
            await self._take(message, acks)
        except Exception as error:  # the library would only log it, and keep the message unacked for ever
            log.exception("message_failed", message_id=message.message_id)
            self._link.fail(error)

    async def _take(self, message: AbstractIncomingMessage, acks: Acks) -> None:
        """Store the message, however long the store is away, then ack it; leave it to the broker when stopping."""
        while not self._stopping.is_set():
            try:
                await self._store(message)
            except (StoreUnavailable, PostUnderWay, Stale) as error:
                log.debug("message_waits", message_id=message.message_id, reason=str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), STORE_PAUSE)
            else:
                acks.done(message)
                return

    async def _store(self, message: AbstractIncomingMessage) -> None:
        try:
            if is_steering(message):
                await self._steer(*read_steering(message, self._rules), self._rules.source)
                return
            await self._accept(*read_request(message, self._rules))
        except RequestRefused as refusal:
            await self._refuse(read_refused(message, self._rules, refusal))
            log.warning("message_refused", code=refusal.code, field=refusal.field, message_id=message.message_id)


def _counting(session: Session, callback: Callback) -> Callback:
    """A callback that leads back to the usual prefetch count (which a consumer cannot change) in the end."""
    numbers = count(1)

    async def on_message(message: AbstractIncomingMessage) -> None:
        await callback(message)
        if next(numbers) == GOOD_IN_A_ROW:
            session.end(Reconnect(f"{GOOD_IN_A_ROW} messages in a row could be decoded"))

    return on_message
