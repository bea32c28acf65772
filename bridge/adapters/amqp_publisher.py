"""The way out for messages: events to the results exchange and to queues, each until the broker has confirmed it.

The broker answers publishes on a channel in its own time, so many are under way at once; nobody waits for another's
confirm. Whatever is not confirmed counts as not delivered and comes again, with the same id and the same bytes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast
from weakref import WeakValueDictionary

import aiormq
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError

from bridge.adapters.amqp_connection import AmqpLink, LinkOptions, Session, being_cancelled
from bridge.adapters.amqp_event import EventMode, misfit, to_message
from bridge.adapters.amqp_topology import Topology, ensure_outbound
from bridge.adapters.amqp_trouble import WEATHER, LinkLost
from bridge.core.delivering import Confirmed, DeliveryAnswer, Gone, TryAgain, Unroutable
from bridge.core.model import Channel, Delivery, Destination
from bridge.ports import Health

CONFIRM_LIMIT = 30.0  # seconds; not below the heartbeat
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to."  # not a queue: the name of a client that waits for its answer
NO_QUEUE = "kickoff-bridge.no-such-queue"

AWAY = TryAgain("the broker is away")


@dataclass(frozen=True, slots=True)
class Outlet:
    """What one session publishes on."""

    session: Session
    channel: aiormq.Channel
    results: str

    def exchange_for(self, destination: Destination) -> str:
        """The results exchange takes a routing key, the default exchange, which has no name, a queue's name."""
        return self.results if destination.channel is Channel.EXCHANGE else ""


class AmqpPublisher:
    """Publishes events; `ports.Sender` for every channel but CALLBACK, and `processing.Service`.

    `confirm_limit`: seconds to wait for a confirm.
    """

    def __init__(
        self,
        link: LinkOptions,
        topology: Topology,
        event_mode: EventMode = "structured",
        confirm_limit: float = CONFIRM_LIMIT,
    ) -> None:
        self._link = AmqpLink(link, "publish", self._publishing)
        self.name = self._link.name
        self._topology = topology
        self._event_mode = event_mode
        self._confirm_limit = confirm_limit
        self._outlet: Outlet | None = None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<AmqpPublisher: {len(self._turns)} messages under way, {self._link!r}>"

    @property
    def ready(self) -> bool:
        """Whether the broker takes messages now."""
        return self._link.ready and self._outlet is not None

    async def health(self) -> Health:
        """For the readiness check."""
        return await self._link.health()

    async def run(self) -> None:
        """Keep the connection until stopped."""
        await self._link.run()

    def stop(self) -> None:
        """Close the connection; to be called when nothing is being sent any more."""
        self._link.stop()

    async def send(self, delivery: Delivery) -> DeliveryAnswer:
        """Publish once and wait for the broker's answer."""
        message = to_message(delivery.event, self._event_mode)
        if (problem := misfit(message, delivery.destination.target)) is not None:
            return Gone(problem)
        async with self._turn(message):
            if self._outlet is None:
                return AWAY
            return await self._answer(self._outlet, message, delivery.destination)

    @asynccontextmanager
    async def _publishing(self, session: Session) -> AsyncIterator[None]:
        channel = await session.open_channel(confirms=True)
        results = await ensure_outbound(channel, self._topology)
        await self._probe(channel)
        self._outlet = Outlet(session, cast("aiormq.Channel", await channel.get_underlay_channel()), results.name)
        try:
            yield
        finally:
            self._outlet = None

    async def _probe(self, channel: AbstractChannel) -> None:
        """Publish to nobody. While a memory or disk alarm lasts, no answer comes, and the setting up times out.

        So an alarm costs the events under way one attempt each. Without the probe every attempt would leave a copy in
        the broker's buffers, all to be delivered when the alarm is over. Twice, because the broker still answers the
        publish that makes it block the connection.
        """
        for _ in range(2):
            with suppress(PublishError):
                await channel.default_exchange.publish(Message(b""), NO_QUEUE, mandatory=True)

    @asynccontextmanager
    async def _turn(self, message: Message) -> AsyncIterator[None]:
        """Hold back a second message with the same id: the library tells returns apart by nothing else.

        One event often goes to the exchange and to a reply queue. Were both under way at once, a return of one could
        be taken for an answer to the other, which is then lost (aio-pika issue 689).
        """
        assert message.message_id is not None
        lock = self._turns.setdefault(message.message_id, asyncio.Lock())
        async with lock:
            yield

    async def _answer(self, outlet: Outlet, message: Message, destination: Destination) -> DeliveryAnswer:
        try:
            return await self._publish(outlet, message, destination)
        except PublishError:
            return Unroutable(f"unroutable: no queue takes {destination.target!r}")
        except DeliveryError:
            return TryAgain("the broker refused the message (nack), as a full queue does")
        except TimeoutError:
            outlet.session.end(LinkLost("the broker confirms nothing; a memory or disk alarm?"))
            return TryAgain("no confirm in time")
        except WEATHER:
            return AWAY
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            return AWAY

    async def _publish(self, outlet: Outlet, message: Message, destination: Destination) -> DeliveryAnswer:
        """Publish; raises what the library makes of everything but a plain confirm."""
        waiting_client = destination.channel is Channel.QUEUE and destination.target.startswith(DIRECT_REPLY_TO)
        async with asyncio.timeout(self._confirm_limit):
            if waiting_client and not await self._link.has_queue(destination.target):
                return Gone("the client that waited for this answer has gone")
            await outlet.channel.basic_publish(
                message.body,
                exchange=outlet.exchange_for(destination),
                routing_key=destination.target,
                properties=message.properties,
                mandatory=not waiting_client,  # direct reply-to counts as "no queue", so it would always be returned
                wait=False,  # do not wait for the socket to drain; the confirm is awaited instead
            )
        return Confirmed()
