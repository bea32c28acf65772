"""Keeps one connection to the broker open: connects, sets up, waits for its end, and reconnects.

The library's robust connection is not used. It hides errors that only an operator can end (a queue with other
arguments), re-creates deleted queues whether that is wanted or not, and reports neither. Here every end has a reason,
is logged once, and leads to a complete reconnect.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection

from bridge.adapters.amqp.errors import TRANSIENT_ERRORS, BrokerProblem, ConnectionLost, explain
from bridge.adapters.amqp.frames import sanitizing_connection
from bridge.adapters.amqp.memory import MessageMemory
from bridge.core.jitter import spread
from bridge.core.runs.quarantine import Quarantined
from bridge.observability.logging import log_fault
from bridge.ports.lifecycle import Health, ReportFault

HEARTBEAT = 10  # seconds, for every connection; a silent one is closed after three times as long
CLOSE_TIMEOUT = 5.0  # seconds for closing a connection
PROBE_TIMEOUT = 10.0  # seconds
MIN_PAUSE = 0.5  # seconds
INTERNAL = "internal error; see item_quarantined in the log"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """The addresses of the broker's nodes, and the name of this process.

    `urls`: tried in this order; after a failed or lost connection, the next one.
    `timeout`: seconds for connecting and for setup. `longest_pause`: maximum seconds between two attempts.
    """

    urls: Sequence[str] = field(repr=False)
    instance: str
    timeout: float = 10.0
    longest_pause: float = 10.0
    report: ReportFault = log_fault


class Session:
    """One open connection. It ends when the connection or a channel closes, or the broker cancels a consumer."""

    def __init__(self, connection: AbstractConnection, memory: MessageMemory) -> None:
        self.memory = memory
        self._connection = connection
        self._over = asyncio.Event()
        self._reason = ConnectionLost("not ended yet")
        connection.close_callbacks.add(self._on_close)

    def end(self, reason: ConnectionLost) -> None:
        """End the session; only the first reason counts."""
        if not self._over.is_set():
            self._reason = reason
            self._over.set()

    async def ended(self) -> ConnectionLost:
        """Wait for the end and return its reason."""
        await self._over.wait()
        return self._reason

    async def open_channel(
        self, *, confirms: bool = False, survives: Callable[[BaseException | None], bool] | None = None
    ) -> AbstractChannel:
        """Open a channel; its end ends the session, unless `survives` returns true for the error that closed it.

        With `confirms`, a returned message raises `PublishError`.
        """

        def on_close(channel: object, error: BaseException | None) -> None:
            if survives is None or not survives(error):
                self._on_close(channel, error)

        try:
            channel = await self._connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        except Exception as error:
            if type(error) is Exception:  # aiormq raises the bare class for a call that the end of the link cut off
                raise ConnectionLost("connection closed", error) from error
            raise
        channel.close_callbacks.add(on_close)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._on_cancel)
        return channel

    def _on_close(self, _: object, error: BaseException | None) -> None:
        self.end(ConnectionLost(str(error) or "connection closed", error))

    def _on_cancel(self, _: object) -> None:
        self.end(ConnectionLost("the broker cancelled the consumer, as it does when the queue is deleted"))


Use = Callable[[Session], AbstractAsyncContextManager[None]]
"""The use of a connection: entered to set it up, left when it has ended or is about to be closed."""


class AmqpLink:
    """One supervised connection; `ports.Service`."""

    def __init__(self, options: LinkOptions, name: str, use: Use) -> None:
        self.name = f"amqp-{name}"
        self._link = name
        self._options = options
        self._connection_name = f"kickoff-bridge:{options.instance}:{name}"
        self._use = use
        self._session: Session | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self._bug: BaseException | None = None
        self._attempts = 0
        self._node = 0  # the position in `urls`
        self._problem: BrokerProblem | None = BrokerProblem("not connected yet", "")  # None while connected
        self._logged_problem: BrokerProblem | None = None  # the problem logged for this outage

    def __repr__(self) -> str:
        return f"<AmqpLink {self.name}: {'connected' if self.ready else 'not connected'}>"

    @property
    def ready(self) -> bool:
        """Whether the connection is open and set up."""
        return self._session is not None

    @property
    def _url(self) -> str:
        """The node in use, or tried next."""
        return self._options.urls[self._node]

    @property
    def _log(self) -> structlog.stdlib.BoundLogger:
        bound: structlog.stdlib.BoundLogger = log.bind(link=self._link, **_address(self._url))
        return bound

    async def health(self) -> Health:
        """Return the state of the connection, for `/readyz`."""
        problem = self._problem
        return Health(ok=self.ready, detail="connected" if problem is None else problem.summary)

    async def run(self) -> None:
        """Keep the connection open until stopped; raise what `fail` was given."""
        if self._stopping:
            return
        self._supervisor = asyncio.create_task(self._supervise(), name=self.name)
        try:
            await self._supervisor
        except asyncio.CancelledError:
            if not self._stopping or being_cancelled():
                raise

    def stop(self) -> None:
        """Leave the use of the connection, close it, and let `run` return."""
        self._stopping = True
        if self._supervisor is not None:
            self._supervisor.cancel()

    def fail(self, bug: BaseException) -> None:
        """Let `run` raise this error; for callbacks, whose exceptions the library only logs."""
        self._bug = self._bug or bug
        if self._session is not None:
            self._session.end(ConnectionLost("a bug in a callback"))

    async def connect(self, purpose: str) -> AbstractConnection:
        """Open a connection beside the supervised one; raises what connecting raises."""
        return await self._connect(f"{self._connection_name}-{purpose}", MessageMemory())

    async def _supervise(self) -> None:
        while not self._stopping:  # the library may swallow the cancellation of an attempt to connect
            reason = await self._once()
            if self._bug is not None:
                raise self._bug
            self._log_outage(reason)
            self._node = (self._node + 1) % len(self._options.urls)
            await asyncio.sleep(self._pause())

    async def _once(self) -> BaseException:
        """Open a connection and wait for its end; return what ended it or kept it from opening."""
        try:
            async with self._opened() as session:
                self._connected(session)
                try:
                    return await session.ended()
                finally:
                    self._session = None  # before the closing, which may take seconds
        except TRANSIENT_ERRORS as error:
            return error
        except Exception as error:  # noqa: BLE001 - must not end the process; the link reconnects
            self._options.report(Quarantined.TASK, error, link=self.name)
            return ConnectionLost(INTERNAL)
        except asyncio.CancelledError as error:
            if being_cancelled():
                raise
            # The library cancels tasks that wait for a closed channel.
            return ConnectionLost("connection closed", error)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Session]:
        async with AsyncExitStack() as stack:
            memory = MessageMemory()  # a new one, because the messages in progress on the last connection are lost
            connection = await self._connect(self._connection_name, memory)
            stack.push_async_callback(_close, connection)
            session = Session(connection, memory)
            async with asyncio.timeout(self._options.timeout):  # during an alarm, the broker answers no request
                await stack.enter_async_context(self._use(session))
            yield session

    async def _connect(self, name: str, memory: MessageMemory) -> AbstractConnection:
        return await aio_pika.connect(
            self._url,
            timeout=self._options.timeout,
            heartbeat=HEARTBEAT,  # overrides the URL's, because an invalid value there would disable heartbeats
            client_properties={"connection_name": name},
            connection_class=sanitizing_connection(memory),
        )

    def _connected(self, session: Session) -> None:
        self._session, self._attempts = session, 0
        self._problem = self._logged_problem = None
        self._log.info("broker_connected")

    def _log_outage(self, reason: BaseException) -> None:
        """Log one line per outage, and a second one if only the operator can end it."""
        was_connected, self._problem = self._problem is None, explain(reason)
        problem, logged = self._problem, self._logged_problem
        if logged is None or problem.remedy not in (None, logged.remedy):
            self._logged_problem = problem
            write = self._log.warning if problem.remedy is None else self._log.error
            event = "broker_disconnected" if was_connected else "broker_unreachable"
            write(event, reason=problem.reason, remedy=problem.remedy)

    def _pause(self) -> float:
        """Return the seconds until the next attempt: exponential backoff with full jitter, per round of all nodes."""
        rounds = self._attempts // len(self._options.urls)
        span = min(MIN_PAUSE * 2.0 ** min(rounds, 16), self._options.longest_pause)
        self._attempts += 1
        return spread(f"{self._connection_name}:{self._attempts}", 0.0, span)


async def probe_broker(urls: Sequence[str]) -> Health:
    """Try once to connect to each node of the broker, one of which is enough; declare nothing."""
    nodes = [await _probe_node(url) for url in urls]
    if len(nodes) == 1:
        return nodes[0]
    details = [f"{_address(url)['host']}: {node.detail}" for url, node in zip(urls, nodes, strict=True)]
    return Health(ok=any(node.ok for node in nodes), detail="; ".join(details))


async def _probe_node(url: str) -> Health:
    try:
        connection = await aio_pika.connect(url, timeout=PROBE_TIMEOUT, heartbeat=HEARTBEAT)
    except TRANSIENT_ERRORS as error:
        problem = explain(error)
        remedy = f"; {problem.remedy}" if problem.remedy else ""
        return Health(ok=False, detail=f"{problem.summary} ({problem.reason}){remedy}")
    await connection.close()
    return Health(ok=True, detail="accepts the connection")


async def connect_in_turn(urls: Sequence[str], **options: Any) -> AbstractConnection:
    """Connect to the first node that accepts it; raise the error of the last one."""
    *others, last = urls
    for url in others:
        with suppress(*TRANSIENT_ERRORS):
            return cast("AbstractConnection", await aio_pika.connect(url, **options))
    return cast("AbstractConnection", await aio_pika.connect(last, **options))


def _address(url: str) -> dict[str, str]:
    """Return the host and the virtual host of a URL, for the log."""
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port or 'default port'}"
    return {"host": host, "vhost": unquote(parts.path[1:]) or "/"}


def being_cancelled() -> bool:
    """Return whether this task is being cancelled; the library raises `CancelledError` by itself as well."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _close(connection: AbstractConnection) -> None:
    with suppress(*TRANSIENT_ERRORS):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
