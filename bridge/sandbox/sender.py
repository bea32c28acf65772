"""Send webhooks when they are due: each once, without a retry, and without delaying the execution.

The real API promises no more. Loss, delay, duplication, and reordering are drawn from the RNG when a webhook is
scheduled.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import Random

import aiohttp

from bridge.sandbox.exact_json import to_json
from bridge.sandbox.execution import TASKS, Execution
from bridge.sandbox.ledger import Record
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.timers import Timers
from bridge.sandbox.webhooks import Webhook


class Sender:
    """Keeps scheduled webhooks and sends them; `records` receives one per webhook, with its response or error."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float], records: list[Record]) -> None:
        self._settings = settings
        self._clock = clock
        self._records = records
        self._rng = Random(f"{settings.seed}:webhooks")
        self._timers = Timers(clock)
        self._session: aiohttp.ClientSession | None = None
        self._running: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the timer task."""
        self._running = asyncio.create_task(self._timers.run())

    async def stop(self) -> None:
        """Stop the timers, and cancel deliveries in progress."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):  # an error in an action is raised here
                await self._running

    def send_due(self) -> None:
        """Send the webhooks that are due now."""
        self._timers.send_due()

    def schedule(self, execution: Execution, webhooks: Iterable[Webhook]) -> None:
        """Schedule the webhooks of an execution for their times."""
        for webhook in webhooks:
            lost = self._rng.random() < self._settings.webhook_loss_rate
            twice = self._rng.random() < self._settings.webhook_duplicate_rate
            for _ in range(2 if twice and not lost else 1):
                what = self._drop if lost else self._send
                self._timers.at(webhook.at + self._delay(execution), partial(what, execution, webhook))

    def _delay(self, execution: Execution) -> float:
        late = self._rng.random() * self._settings.webhook_delay
        if self._settings.webhook_reorder:  # up to one task, so that webhooks overtake each other
            late += self._rng.random() * execution.seconds / len(TASKS)
        return late

    def _drop(self, execution: Execution, webhook: Webhook) -> None:
        if _was_written(execution, webhook):
            self._record(execution, webhook)["error"] = "lost"

    def _send(self, execution: Execution, webhook: Webhook) -> None:
        if _was_written(execution, webhook):
            task = asyncio.create_task(self._deliver(webhook, self._record(execution, webhook)))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    def _record(self, execution: Execution, webhook: Webhook) -> Record:
        record = {
            "sent_at": self._clock(),
            "kind": webhook.kind,
            "url": webhook.hook.url,
            "kickoff_id": execution.kickoff_id,
            "answered": None,
            "error": None,
        }
        self._records.append(record)
        return record

    async def _deliver(self, webhook: Webhook, record: Record) -> None:
        raw = to_json(webhook.body)
        headers = {"Content-Type": "application/json"}
        if webhook.hook.authorization is not None:
            headers["Authorization"] = webhook.hook.authorization
        if webhook.sign is not None:
            headers |= webhook.sign(raw, self._clock())
        try:
            async with self._open_session().post(
                webhook.hook.url, data=raw, headers=headers, allow_redirects=False
            ) as response:
                record["answered"] = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout is an OSError
            record["error"] = type(error).__name__

    def _open_session(self) -> aiohttp.ClientSession:
        # Opened for the first webhook, because most sandboxes never send one.
        if self._session is None:
            seconds = self._settings.webhook_timeout
            timeout = aiohttp.ClientTimeout(sock_connect=seconds, sock_read=seconds)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session


def _was_written(execution: Execution, webhook: Webhook) -> bool:
    # A stopped execution sends nothing that was due after the stop.
    return webhook.at <= execution.ends_at
