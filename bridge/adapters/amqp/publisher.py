"""Publishes events to the results exchange and to reply queues, each until the broker confirms it.

The broker confirms publishes asynchronously, so many are in progress at once and none waits for another's confirm.
An unconfirmed message counts as not delivered and is published again, with the same id and the same bytes.

A refused message closes the channel, and the broker does not say which message it was. All that were in progress are
published again, one at a time on a separate connection (`isolated_channel`); the others continue on a new channel.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import aiormq
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError

from bridge.adapters.amqp.connection import CLOSE_TIMEOUT, AmqpLink, LinkOptions, Session, being_cancelled
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, ConnectionLost, is_refusal
from bridge.adapters.amqp.isolated_channel import IsolatedChannel, Publication
from bridge.adapters.amqp.outbound import EventMode, OutboundMessage, invalid_reason, to_message
from bridge.adapters.amqp.refusals import Refusals
from bridge.adapters.amqp.topology import Topology, ensure_outbound
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.core.delivery.outcome import Confirmed, Retryable, SendResult, Undeliverable, Unroutable
from bridge.ports.lifecycle import Health

CONFIRM_TIMEOUT = 30.0  # seconds; not below the heartbeat
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to."  # prefix of the names of direct reply-to clients, which are not queues
NO_QUEUE = "kickoff-bridge.no-such-queue"

FAILURES: tuple[type[BaseException], ...] = (*TRANSIENT_ERRORS, asyncio.CancelledError)

BROKER_UNAVAILABLE = Retryable("the broker is unavailable")
BUSY = Retryable("many messages are being published one at a time, because the broker may refuse them")


class ConfirmChannel:
    """The channel that one session publishes on, replaced after the broker closes it over a refused message."""

    def __init__(self, session: Session, channel: aiormq.Channel, results: str) -> None:
        self.session = session
        self._channel: aiormq.Channel | None = channel
        self._results = results
        self._opening = asyncio.Lock()

    async def channel(self) -> aiormq.Channel:
        """Return the channel to publish on; raise what opening it raises."""
        if self._channel is not None:
            return self._channel
        async with self._opening:
            if self._channel is None:
                self._channel = await _underlay(await self.session.open_channel(confirms=True, survives=is_refusal))
            return self._channel

    async def survives_close_of(self, broken: aiormq.Channel) -> bool:
        """Return whether only this channel is closed, and the connection can open another one."""
        if self._channel is broken:
            self._channel = None
        try:
            return await self.channel() is not broken
        except FAILURES as error:
            raise_if_cancelled(error)
            return False

    def publication(self, message: OutboundMessage, destination: Destination) -> Publication:
        """Address the results exchange by routing key, or a queue by its name through the default exchange."""
        exchange = self._results if destination.channel is Channel.EXCHANGE else ""
        # A direct reply-to client is not a queue, so a mandatory message would always be returned.
        return Publication(message, exchange, destination.target, mandatory=not _is_direct_reply(destination))


class AmqpPublisher:
    """Publishes events; `ports.Sender` for every channel but CALLBACK, and `ports.Service`.

    `confirm_limit`: seconds to wait for a confirm.
    """

    def __init__(
        self,
        link: LinkOptions,
        topology: Topology,
        event_mode: EventMode = "structured",
        confirm_limit: float = CONFIRM_TIMEOUT,
    ) -> None:
        self._link = AmqpLink(link, "publish", self._publishing)
        self.name = self._link.name
        self._topology = topology
        self._event_mode = event_mode
        self._confirm_limit = confirm_limit
        self._confirm_channel: ConfirmChannel | None = None
        self._suspects = IsolatedChannel(lambda: self._link.connect("suspects"))
        self._clients = IsolatedChannel(lambda: self._link.connect("clients"))
        self._refusals = Refusals()
        self._publishing_ids: dict[str, asyncio.Event] = {}  # set when the message is no longer in progress

    def __repr__(self) -> str:
        return f"<AmqpPublisher: {len(self._publishing_ids)} messages in progress, {self._link!r}>"

    @property
    def ready(self) -> bool:
        """Whether the broker accepts messages now."""
        return self._link.ready and self._confirm_channel is not None

    async def health(self) -> Health:
        """Return the state of the connection, for `/readyz`."""
        return await self._link.health()

    async def run(self) -> None:
        """Keep the connection open until stopped."""
        try:
            await self._link.run()
        finally:
            await _close(self._suspects)
            await _close(self._clients)

    def stop(self) -> None:
        """Close the connection; call it once nothing is being sent."""
        self._link.stop()

    async def send(self, delivery: Delivery) -> SendResult:
        """Publish once, and wait for the broker's confirm or return."""
        message = to_message(delivery.event, self._event_mode)
        if (problem := invalid_reason(message, delivery.destination.target)) is not None:
            return Undeliverable(problem)
        if delivery.destination.channel is Channel.EXCHANGE and not self._topology.publishes_results:
            return Undeliverable("the setting amqp.results is none")
        while (earlier := self._publishing_ids.get(delivery.event.event_id)) is not None:
            await earlier.wait()
        # The library matches returns only by the id. One event often goes to the exchange and to a reply queue; if both
        # were in progress at once, a return of one could be assigned to the other (aio-pika issue 689).
        done = self._publishing_ids[delivery.event.event_id] = asyncio.Event()
        try:
            return await self._publish(message, delivery.destination)
        finally:
            del self._publishing_ids[delivery.event.event_id]
            done.set()

    async def _publish(self, message: OutboundMessage, destination: Destination) -> SendResult:
        if self._confirm_channel is None:
            return BROKER_UNAVAILABLE
        publication = self._confirm_channel.publication(message, destination)
        if (known := self._refusals.recent(publication)) is not None:
            return known
        if self._refusals.may_refuse(publication):
            return BUSY if self._suspects.full else await self._publish_isolated(publication)
        if _is_direct_reply(destination) and (gone := await self._check_client(publication)):
            return gone
        shared = await self._publish_shared(self._confirm_channel, publication)
        return shared or await self._publish_isolated(publication)

    @asynccontextmanager
    async def _publishing(self, session: Session) -> AsyncIterator[None]:
        channel = await session.open_channel(confirms=True, survives=is_refusal)
        await ensure_outbound(channel, self._topology)
        await self._probe(channel)
        self._confirm_channel = ConfirmChannel(session, await _underlay(channel), self._topology.results)
        try:
            yield
        finally:
            self._confirm_channel = None

    async def _probe(self, channel: AbstractChannel) -> None:
        """Publish to a nonexistent queue; during a memory or disk alarm, nothing is returned and setup times out.

        So an alarm costs each event in progress one attempt. Without the probe, every attempt would leave a copy in the
        broker's buffers, to be delivered after the alarm. Two publishes are needed, because the broker still responds
        to the one that makes it block the connection.
        """
        for _ in range(2):
            with suppress(PublishError):
                await channel.default_exchange.publish(Message(b""), NO_QUEUE, mandatory=True)

    async def _publish_shared(self, confirm_channel: ConfirmChannel, publication: Publication) -> SendResult | None:
        """Publish on the shared channel; None if the broker refused a message there, possibly this one."""
        try:
            channel = await confirm_channel.channel()
        except FAILURES as error:
            return _result(publication, error)
        try:
            async with asyncio.timeout(self._confirm_limit):
                await publication.publish(channel)
        except DeliveryError as error:
            return _result(publication, error)
        except TimeoutError:
            confirm_channel.session.end(ConnectionLost("the broker confirms nothing; a memory or disk alarm?"))
            return Retryable("no confirm in time")
        except FAILURES as error:
            raise_if_cancelled(error)
            suspect = is_refusal(error) or await confirm_channel.survives_close_of(channel)
            return None if suspect else BROKER_UNAVAILABLE
        return Confirmed()

    async def _publish_isolated(self, publication: Publication) -> SendResult:
        """Publish on the isolated channel, where a refusal can only concern this message, and record the refusal."""
        try:
            async with asyncio.timeout(self._confirm_limit):
                await self._suspects.publish(publication)
        except TimeoutError:
            await _close(self._suspects)
            return Retryable("no confirm in time")
        except FAILURES as error:
            return self._refusals.refused(publication, error) if is_refusal(error) else _result(publication, error)
        self._refusals.accepted(publication)
        return Confirmed()

    async def _check_client(self, publication: Publication) -> SendResult | None:
        """Return None if the direct reply-to client still waits, otherwise the outcome."""
        if self._clients.full:
            return BUSY
        try:
            async with asyncio.timeout(self._confirm_limit):
                waits = await self._clients.has_client(publication.routing_key)
        except TimeoutError:
            await _close(self._clients)
            return Retryable("no response in time")
        except FAILURES as error:
            return _result(publication, error)
        return None if waits else Undeliverable("the client that waited for this reply has disconnected")


def raise_if_cancelled(error: BaseException) -> None:
    """Raise the error if this task is being cancelled; the library raises `CancelledError` by itself as well."""
    if isinstance(error, asyncio.CancelledError) and being_cancelled():
        raise error


async def _close(channel: IsolatedChannel) -> None:
    with suppress(*TRANSIENT_ERRORS):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await channel.close()


async def _underlay(channel: AbstractChannel) -> aiormq.Channel:
    """Return the lower library's channel."""
    return cast("aiormq.Channel", await channel.get_underlay_channel())


def _is_direct_reply(destination: Destination) -> bool:
    return destination.channel is Channel.QUEUE and destination.target.startswith(DIRECT_REPLY_TO)


def _result(publication: Publication, error: BaseException) -> SendResult:
    """Return the outcome that a publish error means; raise the error if this task is being cancelled."""
    raise_if_cancelled(error)
    if isinstance(error, PublishError):
        return Unroutable(f"unroutable: no queue is bound for {publication.routing_key!r}")
    if isinstance(error, DeliveryError):
        return Retryable("the broker refused the message (nack), for example because a queue is full")
    return BROKER_UNAVAILABLE
