"""Sends webhooks at their moments: each once, without a second try, and never in the way of the execution.

No statement of the real thing promises more. What goes wrong on the way (loss, delay, doubling, disorder) is drawn from
dice when the webhook is written.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import Random

import aiohttp
import orjson

from bridge.sandbox.execution import Execution
from bridge.sandbox.notes import Note
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.tasks import TASKS
from bridge.sandbox.timers import Timers
from bridge.sandbox.webhooks import Webhook


class Sender:
    """Takes and sends webhooks. `notes` is told of every webhook: sent when, with what answer, or lost."""

    def __init__(self, settings: SandboxSettings, clock: Callable[[], float], notes: list[Note]) -> None:
        self._settings = settings
        self._clock = clock
        self._notes = notes
        self._dice = Random(f"{settings.seed}:webhooks")
        self._timers = Timers(clock)
        self._session: aiohttp.ClientSession | None = None
        self._running: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the one task that waits for what is due."""
        self._running = asyncio.create_task(self._timers.run())

    async def stop(self) -> None:
        """Stop waiting, and drop what is under way."""
        for task in self._deliveries:
            task.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):  # a bug in what it did comes out here
                await self._running

    def nudge(self) -> None:
        """Send now what is due."""
        self._timers.nudge()

    def take(self, execution: Execution, webhooks: Iterable[Webhook]) -> None:
        """Take webhooks of an execution, to be sent when their moments come."""
        for webhook in webhooks:
            lost = self._dice.random() < self._settings.webhook_loss
            twice = self._dice.random() < self._settings.webhook_doubling
            for _ in range(2 if twice and not lost else 1):
                what = self._lose if lost else self._send
                self._timers.at(webhook.at + self._lateness(execution), partial(what, execution, webhook))

    def _lateness(self, execution: Execution) -> float:
        late = self._dice.random() * self._settings.webhook_delay
        if self._settings.webhook_shuffle:  # up to one task late, so that neighbours overtake each other
            late += self._dice.random() * execution.seconds / len(TASKS)
        return late

    def _lose(self, execution: Execution, webhook: Webhook) -> None:
        if _was_written(execution, webhook):
            self._note(execution, webhook)["error"] = "lost"

    def _send(self, execution: Execution, webhook: Webhook) -> None:
        if _was_written(execution, webhook):
            task = asyncio.create_task(self._deliver(webhook, self._note(execution, webhook)))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    def _note(self, execution: Execution, webhook: Webhook) -> Note:
        note = {
            "sent_at": self._clock(),
            "kind": webhook.kind,
            "url": webhook.hook.url,
            "kickoff_id": execution.kickoff_id,
            "answered": None,
            "error": None,
        }
        self._notes.append(note)
        return note

    async def _deliver(self, webhook: Webhook, note: Note) -> None:
        raw = orjson.dumps(webhook.body)
        headers = {"Content-Type": "application/json"}
        if webhook.hook.authorization is not None:
            headers["Authorization"] = webhook.hook.authorization
        if webhook.sign is not None:
            headers |= webhook.sign(raw, self._clock())
        try:
            async with self._open_session().post(
                webhook.hook.url, data=raw, headers=headers, allow_redirects=False
            ) as response:
                note["answered"] = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout is an OSError
            note["error"] = type(error).__name__

    def _open_session(self) -> aiohttp.ClientSession:
        # Opened by the first webhook: most sandboxes never send one.
        if self._session is None:
            seconds = self._settings.webhook_timeout
            timeout = aiohttp.ClientTimeout(sock_connect=seconds, sock_read=seconds)
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session


def _was_written(execution: Execution, webhook: Webhook) -> bool:
    # What a stopped execution would have done later never happened.
    return webhook.at <= execution.ends_at
