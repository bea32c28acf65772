"""Check requests against the crew's inputs, so that an incomplete one is refused before it costs anything.

A cached answer can accept a request, but not refuse it: a deploy may have changed the inputs a moment ago.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from bridge.core.crew.inputs import ListedInputs, missing_inputs, required_inputs
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import KickoffRequest
from bridge.ports.lifecycle import Clock
from bridge.steps._crew import Crew

MAX_WAIT = 5.0  # seconds that a request waits for a crew's inputs; it is then accepted
MAX_WAIT_WITHOUT_SLOT = 0.5  # seconds, see `BoundedInputCheck`


class CrewInputs:
    """Asks each crew for its inputs, one question at a time, and caches the answers; `ports.ListInputs`."""

    def __init__(self, crews: Mapping[str, Crew], clock: Clock) -> None:
        self._crews = crews
        self._clock = clock
        self._questions: dict[str, asyncio.Task[None]] = {}

    async def __call__(self, crew: str) -> ListedInputs | None:
        """Return a crew's inputs, with the required ones; None while they are unknown."""
        listed = await self._listed(self._crews[crew])
        return listed and replace(listed, required=self._required(self._crews[crew], listed))

    async def check(self, request: KickoffRequest, max_wait: float = MAX_WAIT) -> None:
        """Raise `RequestRefused` (`missing_inputs`) if the request lacks a required input of its crew.

        The answer that decides a refusal is to a question asked after the call. If the crew does not answer within
        `max_wait` seconds, the request passes: the crew API refuses incomplete ones at no cost.
        """
        crew = self._crews[request.crew]
        if self._has_current(crew) and not self._lacking(crew, crew.inputs.listed, request):
            return  # as almost always, without a timer
        asked_before = crew.inputs.asked
        lacking = []
        with suppress(TimeoutError):
            async with asyncio.timeout(max_wait):
                if self._lacking(crew, await self._listed(crew), request):
                    lacking = self._lacking(crew, await self._listed(crew, after=asked_before), request)
        if lacking:
            raise RequestRefused("missing_inputs", f"the crew requires {', '.join(lacking)}", f"inputs.{lacking[0]}")

    def has_answered(self, crew: str) -> bool:
        """Return whether the crew has listed its inputs, and has not left a question unanswered since."""
        cache = self._crews[crew].inputs
        return cache.listed is not None and cache.is_current(self._clock(), 0)

    def _has_current(self, crew: Crew) -> bool:
        return crew.inputs.is_current(self._clock(), crew.inputs.forgotten)

    def _lacking(self, crew: Crew, listed: ListedInputs | None, request: KickoffRequest) -> list[str]:
        return [] if listed is None else missing_inputs(self._required(crew, listed), request.inputs)

    def _required(self, crew: Crew, listed: ListedInputs) -> tuple[str, ...]:
        return required_inputs(listed, is_flow=crew.policy.is_flow)

    async def _listed(self, crew: Crew, after: int = 0) -> ListedInputs | None:
        """Return the cached answer, or the answer to a question after number `after`, which concurrent callers share.

        A question continues without a caller that stops waiting, so that the next caller learns its outcome.
        """
        cache, after = crew.inputs, max(after, crew.inputs.forgotten)
        while not cache.is_current(self._clock(), after):
            if (question := self._questions.get(crew.name)) is None:
                question = self._questions[crew.name] = asyncio.create_task(self._ask(crew))
            await asyncio.shield(question)
        return cache.listed

    async def _ask(self, crew: Crew) -> None:
        number = crew.inputs.begin()
        try:
            crew.inputs.store(number, await crew.api.inputs(), self._clock())
        finally:
            del self._questions[crew.name]


class BoundedInputCheck:
    """`CrewInputs.check` for a listener that crews share: at most `slots` messages wait for a crew's inputs.

    While all slots are taken, other messages wait only briefly for a crew that has answered, and not at all for
    another one. They then pass unchecked; the crew API refuses incomplete ones at no cost.
    """

    def __init__(self, inputs: CrewInputs, slots: int) -> None:
        self._inputs = inputs
        self._slots = slots

    async def __call__(self, request: KickoffRequest) -> None:
        """Raise `RequestRefused` (`missing_inputs`) if the request lacks a required input of its crew."""
        if self._slots:
            self._slots -= 1
            try:
                await self._inputs.check(request)
            finally:
                self._slots += 1
        elif self._inputs.has_answered(request.crew):
            await self._inputs.check(request, MAX_WAIT_WITHOUT_SLOT)
