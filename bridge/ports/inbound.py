"""What the listeners need from the steps."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.core.crew.flow_questions import FlowQuestion
from bridge.core.crew.webhooks import Kind
from bridge.core.runs.commands import RunCommand
from bridge.core.runs.model import Envelope, KickoffRequest, RequestWarning, Run
from bridge.core.runs.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run of a stored request; `replayed`: an equal request had been stored before and led to this run."""

    run: Run
    replayed: bool
    warnings: tuple[RequestWarning, ...] = ()

    @property
    def outcome(self) -> str:
        """The outcome as in the metrics."""
        return "replayed" if self.replayed else "accepted"


Accept = Callable[[KickoffRequest, Envelope], Awaitable[Accepted]]
"""Stores a request once. Raises `RequestRefused`, or `StoreUnavailable` if the commit was not confirmed."""


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that cannot be accepted, as far as it could be read.

    `headers`: the message's own, safe to forward. `reply_to`: set only if the settings allow it.
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
"""Stores a refused message for the dead queue, with a notice to its sender. Raises `StoreUnavailable`."""


@dataclass(frozen=True, slots=True)
class RunKey:
    """Identifies a run by the idempotency key that its sender used."""

    source: str
    crew: str
    key: str


class ApplyCommand(Protocol):
    """Applies a command (cancel, resume, resolve …) for a named sender, with an optional reason for people."""

    async def __call__(self, wanted: str | RunKey, command: RunCommand, by: str, reason: str | None = None) -> Run:
        """Return the run as stored. Raise `RequestRefused`, `PostInProgress`, `StoreUnavailable`."""


AcceptCommand = Callable[[str | RunKey, RunCommand, str], Awaitable[None]]
"""As `ApplyCommand`, for a listener that crews share: a command that must wait for a POST is stored instead."""

ExplainWaiting = Callable[[Sequence[Run]], Awaitable[Mapping[str, Waiting]]]
"""Returns what each of some runs waits for, by its id; no entry: nothing. Raises `StoreUnavailable`."""

ReceiveFlowQuestion = Callable[[str, FlowQuestion], Awaitable[None]]
"""Stores a flow's question, signed by the deployment of the named crew. Raises `StoreUnavailable`."""

ReceiveCrewWebhook = Callable[[str, Kind, Callable[[], Awaitable[Any]]], Awaitable[bool]]
"""Stores a crew webhook: the token of its URL, its kind, and a reader of its body. Raises `StoreUnavailable`.

The body is read only if the token is authentic. Returns False if the token or its run is unknown.
"""
