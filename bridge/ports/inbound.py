"""What the listeners need from the steps."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.webhooks import Kind
from bridge.core.runs.commands import RunCommand
from bridge.core.runs.model import Envelope, KickoffRequest, Run


@dataclass(frozen=True, slots=True)
class Accepted:
    """A stored request; `replayed`: the same request had been stored before, and `run` is that one's."""

    run: Run
    replayed: bool


Accept = Callable[[KickoffRequest, Envelope], Awaitable[Accepted]]
"""Stores a request once. Raises `RequestRefused`, or `StoreUnavailable` when nobody confirmed it."""

WaitOf = Callable[[Run], Awaitable[float]]
"""For how many seconds an accepted run has to wait for its budgets. Raises `StoreUnavailable`."""


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that cannot be accepted, as far as it could be read.

    `headers`: its own, safe to send on. `reply_to`: only one that the settings allow.
    """

    body: bytes
    content_type: str | None
    headers: dict[str, str | int | float | bool]
    code: str
    detail: str
    crew: str | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    idempotency_key: str | None = None


Refuse = Callable[[RefusedMessage], Awaitable[None]]
"""Stores a refused message for the dead queue, and the notice to its sender. Raises `StoreUnavailable`."""


@dataclass(frozen=True, slots=True)
class KeyOfRun:
    """A run by the idempotency key that its sender used."""

    source: str
    crew: str
    key: str


CommandRun = Callable[[str | KeyOfRun, RunCommand, str], Awaitable[Run]]
"""Cancels a run, answers its question, or decides about one in doubt, for a named somebody; gives back the run then.

Raises `RequestRefused`, `PostUnderWay`, `StoreUnavailable`.
"""

TakeCommand = Callable[[str | KeyOfRun, RunCommand, str], Awaitable[None]]
"""The same for a listener that crews share: stores what cannot be applied yet. Raises no `PostUnderWay`."""

TakeFlowQuestion = Callable[[str, FlowQuestion], Awaitable[None]]
"""Takes a question that a crew's deployment signed."""

HandleCrewWebhook = Callable[[str, Kind, Callable[[], Awaitable[Any]]], Awaitable[bool]]
"""Takes a webhook: its URL's token, its kind, how to read it, which is not done for a forged token. False: unknown."""
