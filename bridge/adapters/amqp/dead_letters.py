"""Lists the messages in the dead queue, replays them to where they came from, and removes them.

Listing gets messages without acking them, and at the end the broker requeues them. They keep their order, but some may
end up behind messages that were not listed. Frames that the library cannot decode are sanitized (`frames`), so every
message in the queue can be listed.
"""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import DeliveryError, PublishError

from bridge.adapters.amqp.connection import HEARTBEAT, connect_in_turn
from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, explain
from bridge.adapters.amqp.frames import UNREADABLE, sanitizing_connection
from bridge.adapters.amqp.memory import MessageMemory
from bridge.adapters.amqp.messages import ORIGINAL, is_reserved
from bridge.adapters.amqp.topology import Topology
from bridge.adapters.amqp.values import ExactMessage, to_json
from bridge.core.delivery.events import timestamp
from bridge.core.errors import BrokerUnavailable, RequestRefused
from bridge.ports.dead_letters import DeadLetterPage

TIMEOUT = 30.0  # seconds for one response of the broker
MAX_SHOWN = 1024  # bytes of a body

_RESTORED_PROPERTIES = (
    "content_type",
    "content_encoding",
    "priority",
    "correlation_id",
    "reply_to",
    "type",
    "app_id",
    "timestamp",
)


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """One message in the queue. `message_id` is its own, or derived from its content, so that it is stable."""

    message: AbstractIncomingMessage
    message_id: str

    def describe(self) -> dict[str, Any]:
        """Return the message as JSON values, with the first KiB of the body."""
        headers, body = self.message.headers, self.message.body
        return {
            "id": self.message_id,
            "reason": _text(headers.get("x-bridge-reason")) or _text(headers.get("x-first-death-reason")),
            "detail": _text(headers.get("x-bridge-detail")) or _text(headers.get(UNREADABLE)),
            "time": _time(self.message.timestamp) or _time(_death(headers).get("time")),
            "routing_key": _text(headers.get(f"{ORIGINAL}routing_key")),
            "content_type": self.message.content_type or None,
            "size": len(body),
            "body": body[:MAX_SHOWN].decode("utf-8", "backslashreplace"),
            "x_death": to_json(headers.get("x-death")),
        }


@dataclass(frozen=True, slots=True)
class Replayed:
    """The ids of the messages that were sent back, and of those that were not, with the reason."""

    sent: list[str]
    failed: dict[str, str]


class DeadQueue:
    """An open listing of the queue; messages that were not replayed are requeued at the end."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, topology: Topology) -> None:
        self._channel = channel
        self._queue = queue
        self._topology = topology
        self._last: AbstractIncomingMessage | None = None
        self.total = queue.declaration_result.message_count or 0

    async def messages(self) -> AsyncIterator[DeadMessage]:
        """Yield everything that was in the queue when it was opened, oldest first."""
        for _ in range(self.total):
            message = await self._queue.get(fail=False, timeout=TIMEOUT)
            if message is None:  # another consumer took it
                return
            self._last = message
            yield DeadMessage(message, message.message_id or _fingerprint(message))

    async def replay(self, wanted: Collection[str] | None) -> Replayed:
        """Send messages back, those with these ids or all; one that cannot be sent back stays in the queue.

        Each is published with its own properties and id, and acked once the broker has confirmed it. A second copy of
        a message is only acked; after a crash in between, the same id leads to the same run. Raises the library's
        error if the connection is lost.
        """
        sent: dict[str, str] = {}
        failed: dict[str, str] = {}
        async for dead in self.messages():
            if wanted is not None and dead.message_id not in wanted:
                continue
            copy = f"{dead.message_id} {_fingerprint(dead.message)}"
            if copy not in sent:
                if (reason := await self._refusal(dead)) is not None:
                    failed[dead.message_id] = reason
                    continue
                sent[copy] = dead.message_id
            await dead.message.ack()
        return Replayed(list(sent.values()), failed)

    async def drop(self, wanted: Collection[str] | None) -> list[str]:
        """Remove messages, those with these ids or all; return their ids. Raises the library's error."""
        dropped: list[str] = []
        async for dead in self.messages():
            if wanted is None or dead.message_id in wanted:
                await dead.message.ack()
                dropped.append(dead.message_id)
        return dropped

    async def _refusal(self, dead: DeadMessage) -> str | None:
        """Publish the message; return why that failed, None if it succeeded."""
        if not _is_configured(dead.message, self._topology):
            return "the source whose queue it came from is no longer configured"
        try:
            await self._publish(dead)
        except PublishError:
            return "no queue is bound for it; bind one, then replay it"
        except DeliveryError:
            return "the broker refused it (nack), for example because a queue is full; retry later"
        except (TypeError, ValueError, OverflowError, RecursionError, struct.error):
            return "a header or property cannot be encoded; send its body as a new message"
        return None

    async def requeue(self) -> None:
        """Requeue the messages that were not replayed; return when they are in the queue again."""
        if self._last is not None:
            if self._last.processed:
                await self._channel.close()  # the earlier messages have no tag to nack them by
                return
            await self._last.nack(multiple=True, requeue=True)
            await self._channel.declare_queue(self._topology.dead, passive=True)  # the response follows the requeue

    async def _publish(self, dead: DeadMessage) -> None:
        exchange, routing_key = _route(dead.message, self._topology)
        by_name = self._channel.default_exchange
        to = await self._channel.get_exchange(exchange, ensure=False) if exchange else by_name
        await to.publish(_original_message(dead), routing_key, mandatory=True, timeout=TIMEOUT)


class DeadLetterQueue:
    """`ports.DeadLetters`: the queue for the HTTP API. One use at a time, each over a connection of its own."""

    def __init__(self, urls: Sequence[str], topology: Topology) -> None:
        self._urls = urls
        self._topology = topology
        self._using = asyncio.Lock()

    async def oldest(self, limit: int) -> DeadLetterPage:
        """Return the oldest messages, which are requeued."""
        found: list[dict[str, Any]] = []
        async with self._open() as queue:
            messages = queue.messages()
            while len(found) < limit and (dead := await anext(messages, None)) is not None:
                found.append(dead.describe())
            return DeadLetterPage(found, queue.total)

    async def replay(self, message_id: str) -> None:
        """Send a message back; raises `RequestRefused` if it is unknown or cannot be sent back."""
        async with self._open() as queue:
            replayed = await queue.replay({message_id})
        if replayed.failed:
            raise RequestRefused("not_replayed", replayed.failed[message_id])
        _check_found(replayed.sent)

    async def drop(self, message_id: str) -> None:
        """Remove a message for good; raises `RequestRefused` if it is unknown."""
        async with self._open() as queue:
            dropped = await queue.drop({message_id})
        _check_found(dropped)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[DeadQueue]:
        try:
            async with self._using, open_dead_queue(self._urls, self._topology) as queue:
                yield queue
        except TRANSIENT_ERRORS as error:
            raise BrokerUnavailable(explain(error).summary) from error


@asynccontextmanager
async def open_dead_queue(urls: Sequence[str], topology: Topology) -> AsyncIterator[DeadQueue]:
    """Connect to one of the brokers and open the queue; raises the library's errors."""
    connection = await connect_in_turn(
        urls, timeout=TIMEOUT, heartbeat=HEARTBEAT, connection_class=sanitizing_connection(MessageMemory())
    )
    async with connection, connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
        queue = await channel.declare_queue(topology.dead, passive=True)
        dead = DeadQueue(channel, queue, topology)
        yield dead
        await dead.requeue()


def _check_found(ids: Sequence[str]) -> None:
    if not ids:
        raise RequestRefused("unknown_dead_letter", "no dead letter with this id")


def _original_message(dead: DeadMessage) -> Message:
    """Return the message without reserved headers, which were added on its way here or would route it."""
    message = dead.message
    kept = {name: value for name in _RESTORED_PROPERTIES if (value := getattr(message, name)) is not None}
    headers: dict[str, Any] = {name: value for name, value in message.headers.items() if not is_reserved(name)}
    return ExactMessage(
        message.body, headers=headers, delivery_mode=DeliveryMode.PERSISTENT, message_id=dead.message_id, **kept
    )


def _is_configured(message: AbstractIncomingMessage, topology: Topology) -> bool:
    queue = message.headers.get(f"{ORIGINAL}queue")
    return queue is None or _text(queue) in topology.sources


def _route(message: AbstractIncomingMessage, topology: Topology) -> tuple[str, str]:
    """Return the exchange and routing key by which the message first arrived; if unknown, those of the queue itself.

    They are in a header of the bridge or of the broker. As headers are untrusted, only the requests exchange and the
    queues of sources are used. A message of a source returns to its queue alone, not to all queues of its exchange.
    """
    requests, death = topology.requests, _death(message.headers)
    queue = _text(message.headers.get(f"{ORIGINAL}queue")) or _text(death.get("queue"))
    if queue in topology.sources:
        return "", queue
    original = _text(message.headers.get(f"{ORIGINAL}routing_key"))
    keys = death.get("routing-keys")
    if original is None and death.get("exchange") == requests and isinstance(keys, list) and keys:
        original = _text(keys[0])
    return (requests, original) if original else ("", requests)


def _death(headers: Any) -> dict[str, Any]:
    """Return the broker's first `x-death` entry, if any."""
    deaths = headers.get("x-death")
    first = deaths[-1] if isinstance(deaths, list) and deaths else None
    return first if isinstance(first, dict) else {}


def _fingerprint(message: AbstractIncomingMessage) -> str:
    return f"sha256-{hashlib.sha256(message.body).hexdigest()[:32]}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> str | None:
    return timestamp(value.timestamp()) if isinstance(value, datetime) else None
