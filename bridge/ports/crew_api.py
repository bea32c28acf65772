"""What the steps need from a crew's API, and what is shown of a crew."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.core.crew.responses import KickoffResponse, ResumeResponse, StatusResponse
from bridge.core.polling.planner import RunTimeStats
from bridge.ports.lifecycle import Health


@dataclass(frozen=True, slots=True)
class CrewInfo:
    """What is told of a crew; `paused`: why it cannot be used now, None: it can."""

    name: str
    kind: str
    paused: str | None
    run_times: RunTimeStats | None = None


@dataclass(frozen=True, slots=True)
class CrewFigures:
    """How things stand with a crew in this process.

    `paused`: it cannot be used; `rate_limiter`: how many calls per second it may get now; `tracked_runs`: runs that
    are looked at; `overdue`: looks that wait for their turn.
    """

    paused: bool
    rate_limiter: float
    tracked_runs: int
    overdue: int


ListCrews = Callable[[], Sequence[CrewInfo]]
InputsOf = Callable[[str], Awaitable[tuple[str, ...] | None]]
"""The names of a crew's inputs; None while it does not tell."""


class CrewApi(Protocol):
    """One deployed crew's HTTP API. Every outcome is a value; nothing is raised for what the network does."""

    async def acquire(self) -> None:
        """Wait until the crew's rate limit permits one more call."""

    async def kickoff(self, body: dict[str, Any]) -> KickoffResponse:
        """Start an execution. Must not be cancelled: the POST may already be paid for."""

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        """Carry a human's answer to a crew. Must not be cancelled."""

    async def answer_flow(self, callback_url: str, feedback: str) -> ResumeResponse:
        """Carry a human's answer to the address that a flow named. Must not be cancelled."""

    async def status(self, kickoff_id: str) -> StatusResponse:
        """Look at an execution."""

    async def probe(self) -> Health:
        """Whether the crew can be used, found out without cost."""

    async def inputs(self) -> tuple[str, ...] | None:
        """The names of the inputs that the crew takes; None if it does not tell."""

    async def stop(self, kickoff_id: str) -> bool:
        """Ask for an execution to be stopped, which not every deployment can; whether it was."""
