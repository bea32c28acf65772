"""What executions ask in a simulated world, and the humans who answer: late, twice, differently, or never."""

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
from bridge.core.errors import RequestRefused, Stale, StoreUnavailable
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.model import Run

Happens = Callable[[str, float], bool]
Answer = Callable[[str, Resume], Awaitable[Run | None]]
"""Brings a run an answer; None: whoever was asked died over it."""

DEFAULT = "nobody was there"
TRIES = 8
ENOUGH = 4.0  # seconds after which a human asks again


@dataclass
class Execution:
    """What the crew API runs; times are the loop's. One that asks stands still from `asks_at` until it is answered."""

    kickoff_id: str
    run_id: str
    lasts: float
    end: StatusResponse
    ends_at: float
    asks_at: float = math.inf
    posts: int = 0
    """POSTs with an answer that may have had an effect."""
    carried: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    """Answers of which humans were told that they would be carried."""

    @property
    def task_id(self) -> str:
        return f"task-of-{self.kickoff_id}"

    def waits(self) -> bool:
        return asyncio.get_running_loop().time() >= self.asks_at and not self.carried

    def mark_webhook_seen(self, text: str) -> None:
        """An answer has arrived: go on."""
        assert self.waits(), "an answer to no question"
        self.carried.append(text)
        self.ends_at = asyncio.get_running_loop().time() + self.lasts


async def carry(
    execution: Execution, text: str, happens: Happens, wire: Callable[[], Awaitable[None]]
) -> ResumeResponse:
    """`POST /resume`."""
    await wire()
    if happens("answer not sent", 0.15):
        return NotStarted("ClientConnectorError")
    execution.posts += 1
    if happens("answer lost before arrival", 0.1):
        return InDoubt("ClientOSError")
    execution.mark_webhook_seen(text)
    await wire()
    return InDoubt("ServerDisconnectedError") if happens("answer lost after arrival", 0.1) else Resumed()


def paused(*, outright: bool) -> StatusResponse:
    """The status while a human is awaited, in the two ways that were seen."""
    return WaitingForHuman() if outright else NotFound()


async def human(name: str, execution: Execution, delay: float, answer: Answer) -> None:
    """Looks at the question and answers after a while, as often as it takes to hear what became of that.

    By then somebody else may have answered.
    """
    command = Resume(f"{name} says so", task_id=execution.task_id, key=name)
    assert command.feedback is not None
    if not execution.waits():
        return
    await asyncio.sleep(delay)
    for _ in range(TRIES):
        try:
            told = await answer(execution.run_id, command)
        except RequestRefused:
            if execution.posts:
                return
            await asyncio.sleep(ENOUGH)
        except (StoreUnavailable, Stale):
            await asyncio.sleep(1.0)
        else:
            if told is not None:
                execution.taken.add(command.feedback)
                return
            await asyncio.sleep(1.0)
