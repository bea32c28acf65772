"""Questions of executions in a simulated history, and humans who answer late, twice, differently, or never."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bridge.core.crew.responses import (
    InDoubt,
    NotFound,
    NotStarted,
    Resumed,
    ResumeResponse,
    StatusResponse,
    WaitingForHuman,
)
from bridge.core.errors import RequestRefused, StoreUnavailable
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.model import Run

Happens = Callable[[str, float], bool]
Answer = Callable[[str, Resume], Awaitable[Run | None]]
"""Sends an answer to a run; None: the process died during the call."""

DEFAULT = "no process was running"
TRIES = 8
ENOUGH = 4.0  # seconds after which a human tries again


@dataclass
class Execution:
    """An execution of the crew API, in loop time.

    With a question, it waits from `asks_at` for an answer.
    """

    kickoff_id: str
    run_id: str
    lasts: float
    end: StatusResponse
    ends_at: float
    asks_at: float = math.inf
    posts: int = 0
    """POSTs with an answer that may have had an effect."""
    sent: list[str] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)
    """Answers that humans received a confirmation for."""

    @property
    def task_id(self) -> str:
        return f"task-of-{self.kickoff_id}"

    def waits(self) -> bool:
        return asyncio.get_running_loop().time() >= self.asks_at and not self.sent

    def mark_webhook_seen(self, text: str) -> None:
        """An answer has arrived: continue."""
        assert self.waits(), "an answer to no question"
        self.sent.append(text)
        self.ends_at = asyncio.get_running_loop().time() + self.lasts


async def resume(
    execution: Execution, text: str, happens: Happens, wire: Callable[[], Awaitable[None]]
) -> ResumeResponse:
    """`POST /resume`."""
    await wire()
    if happens("answer not sent", 0.15):
        return NotStarted("connection failed")
    execution.posts += 1
    if happens("answer lost before arrival", 0.1):
        return InDoubt("connection closed")
    execution.mark_webhook_seen(text)
    await wire()
    return InDoubt("connection closed") if happens("answer lost after arrival", 0.1) else Resumed()


def paused(*, outright: bool) -> StatusResponse:
    """The status while it waits for a human, in the two ways that were observed."""
    return WaitingForHuman() if outright else NotFound()


async def human(name: str, execution: Execution, delay: float, answer: Answer) -> None:
    """Read the question and answer after a while, repeatedly until there is a response.

    By then another human may have answered.
    """
    command = Resume(f"{name} reports so", task_id=execution.task_id, key=name)
    assert command.feedback is not None
    if not execution.waits():
        return
    await asyncio.sleep(delay)
    for _ in range(TRIES):
        try:
            response = await answer(execution.run_id, command)
        except RequestRefused:
            if execution.posts:
                return
            await asyncio.sleep(ENOUGH)
        except StoreUnavailable:
            await asyncio.sleep(1.0)
        else:
            if response is not None:
                execution.confirmed.add(command.feedback)
                return
            await asyncio.sleep(1.0)
