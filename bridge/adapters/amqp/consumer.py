"""Consumes kickoff requests from a queue and acks each one as soon as it is durably stored.

The requests queue has one consumer, and so has each source, on a connection of its own: an exchange that one source
lacks does not affect the others.

While the store is unavailable nothing is consumed, and messages stay in the queue (`channel_consumer`).
The library cancels callbacks when their channel dies. That does no harm: the broker delivers the message again, and
the store recognizes it by its key or its content.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import structlog

from bridge.adapters.amqp.channel_consumer import Backpressure, ChannelConsumer, ProbeStore
from bridge.adapters.amqp.connection import INTERNAL, AmqpLink, LinkOptions, Session
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, ConnectionLost
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.messages import MessageRules, is_command, read_command, read_refused, read_request
from bridge.adapters.amqp.sources import read_mapped
from bridge.adapters.amqp.topology import Topology, ensure_inbound, rebind_periodically
from bridge.adapters.byte_budget import ByteBudget, values_budget
from bridge.core.errors import FATAL, RequestRefused, StoreUnavailable
from bridge.core.json import parsed_bytes
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.inbound import Accept, AcceptCommand, Refuse
from bridge.ports.lifecycle import Health
from bridge.ports.metrics import CountRequest

log = structlog.get_logger()


class AmqpConsumer:
    """Consumes the requests queue or the queue of a source; `ports.Service`."""

    def __init__(
        self,
        link: LinkOptions,
        topology: Topology,
        rules: MessageRules,
        prefetch: int,
        accept: Accept,
        refuse: Refuse,
        take_command: AcceptCommand,
        probe_store: ProbeStore,
        values: ByteBudget | None = None,
        count: CountRequest = lambda _outcome: None,
    ) -> None:
        self._link = AmqpLink(link, rules.link, self._consuming)
        self._report = link.report
        self.name = self._link.name
        self._topology = topology
        self._rules = rules
        self._prefetch = prefetch
        self._accept = accept
        self._refuse = refuse
        self._take_command = take_command
        self._probe_store = probe_store
        self._values = values or values_budget()
        self._count = count
        self._backpressure = Backpressure()
        self._channel_consumer: ChannelConsumer | None = None
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f"<AmqpConsumer: {self.in_progress} messages in progress, {self._link!r}>"

    @property
    def ready(self) -> bool:
        """Whether messages are being consumed."""
        return self._link.ready and self._channel_consumer is not None and self._channel_consumer.consuming

    @property
    def in_progress(self) -> int:
        """How many messages are being stored."""
        return 0 if self._channel_consumer is None else self._channel_consumer.in_progress

    async def health(self) -> Health:
        """Return the state of the consumer, for `/readyz`."""
        health = await self._link.health()
        if health.ok and self._backpressure.store_in_doubt:
            return Health(ok=True, detail="connected; consumes no messages while storage is unavailable")
        return health

    async def run(self) -> None:
        """Consume until stopped, through every loss of the broker; raises what a bug in a callback raised."""
        await self._link.run()

    def stop(self) -> None:
        """Stop consuming, finish the messages in progress, and close."""
        self._stopping.set()
        self._link.stop()

    @asynccontextmanager
    async def _consuming(self, session: Session) -> AsyncIterator[None]:
        channel = await session.open_channel()
        queue = await ensure_inbound(channel, self._topology)
        consumer = ChannelConsumer(
            await channel.get_underlay_channel(),
            queue.name,
            self._prefetch,
            self._backpressure,
            self._take,
            self._probe_store,
            self._failed,
            session.memory,
        )
        await consumer.start()  # nothing that may fail follows: what is delivered by then would come back
        self._channel_consumer = consumer
        tasks = [
            asyncio.create_task(self._supervise(session, consumer.run())),
            asyncio.create_task(self._supervise(session, rebind_periodically(queue, self._topology))),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            if self._stopping.is_set():
                await consumer.finish()
            self._channel_consumer = None
            consumer.lost()

    async def _supervise(self, session: Session, work: Awaitable[None]) -> None:
        try:
            with suppress(*TRANSIENT_ERRORS):  # these also end the session
                await work
        except Exception as error:  # noqa: BLE001 - nothing else watches the task
            self._report(Quarantined.TASK, error, link=self.name)
            session.end(ConnectionLost(INTERNAL))

    def _failed(self, error: Exception) -> None:
        """Handle a message that could not even be refused; an unreliable store ends the process."""
        if isinstance(error, FATAL):
            self._link.fail(error)
        else:
            self._report(Quarantined.MESSAGE, error, task="quarantine")

    async def _take(self, message: InboundMessage) -> None:
        """Store a message when there is memory to parse it; an unexpected exception sends it to the dead queue."""
        source = self._rules.source
        try:
            await self._values.wait_for_room(source)
            with self._values.hold(source) as hold:
                hold.grow(parsed_bytes(message.body))
                await self._accept_or_refuse(message)
        except (StoreUnavailable, *FATAL):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is costs this message alone
            self._report(Quarantined.MESSAGE, error, message_id=message.message_id)
            self._count("internal")
            await self._refuse(read_refused(message, self._rules, RequestRefused("internal", INTERNAL)))

    async def _accept_or_refuse(self, message: InboundMessage) -> None:
        rules = self._rules
        try:
            if rules.mapping is None and is_command(message):
                await self._take_command(*read_command(message, rules), rules.source)
                return
            found = (
                read_request(message, rules) if rules.mapping is None else read_mapped(message, rules.mapping, rules)
            )
            if found is not None:
                self._count((await self._accept(*found)).outcome)
                return
            reason = "the expression `when` is false"
            log.debug("message_ignored", source=rules.source, message_id=message.message_id, reason=reason)
        except RequestRefused as refusal:
            self._count(refusal.code)
            await self._refuse(read_refused(message, rules, refusal))
            log.warning(
                "message_refused",
                source=rules.source,
                code=refusal.code,
                field=refusal.field,
                message_id=message.message_id,
            )
