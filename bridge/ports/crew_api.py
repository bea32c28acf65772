"""What the steps need from a crew's API, and what the HTTP API and the metrics show about a crew."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.core.crew.inputs import ListedInputs
from bridge.core.crew.responses import KickoffResponse, ResumeResponse, StatusResponse, StopResponse
from bridge.core.polling import RunTimeStats
from bridge.core.runs.budget import Budget
from bridge.ports.lifecycle import Health


@dataclass(frozen=True, slots=True)
class CrewFigures:
    """A crew's gauges in this process.

    `paused`: it cannot be used; `request_rate`: calls per second permitted now; `tracked_runs`: runs being polled;
    `overdue`: due polls that wait for a permit.
    """

    paused: bool
    request_rate: float
    tracked_runs: int
    overdue: int


@dataclass(frozen=True, slots=True)
class CrewInfo:
    """A crew as the HTTP API shows it; `paused`: why it cannot be used now, None if it can.

    `max_running` and `requests_per_second` are its limits; `settings`: what is configured, without secrets, as JSON.
    """

    name: str
    kind: str
    paused: str | None
    figures: CrewFigures
    max_running: int
    requests_per_second: float
    budget: Budget | None = None
    run_times: RunTimeStats | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


ListCrews = Callable[[], Sequence[CrewInfo]]
ListInputs = Callable[[str], Awaitable[ListedInputs | None]]
"""Returns a crew's inputs, with the required ones; None while they are unknown."""


class CrewApi(Protocol):
    """One deployed crew's HTTP API. Every outcome is a value; network errors are never raised."""

    async def acquire(self) -> None:
        """Wait until the crew's rate limit permits one more call."""

    async def kickoff(self, body: dict[str, Any], traceparent: str | None = None) -> KickoffResponse:
        """Start an execution. Must not be cancelled: the POST may already be paid for.

        `traceparent`: the trace context to send with the POST.
        """

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        """Submit a human's answer to a crew. Must not be cancelled."""

    async def answer_flow(self, callback_url: str, feedback: str) -> ResumeResponse:
        """Submit a human's answer to the URL that a flow named. Must not be cancelled."""

    async def status(self, kickoff_id: str) -> StatusResponse:
        """Request the status of an execution."""

    async def probe(self) -> Health:
        """Check whether the crew can be used, at no cost."""

    async def inputs(self) -> ListedInputs | None:
        """Return the crew's inputs; None if the API does not list them."""

    async def stop(self, kickoff_id: str) -> StopResponse:
        """Ask the API to stop an execution; return what came of it. Not every deployment can."""
