"""What a crew takes: asked once in a while, so that a request that lacks something is refused before it costs."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from bridge.core.crew.inputs import missing
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import KickoffRequest
from bridge.ports.lifecycle import Clock
from bridge.steps._crew import Crew

KEEP = 600.0  # seconds for which a crew's inputs are taken as known
ASK_AGAIN = (
    10.0  # seconds after which a refusal makes us ask again (the crew may have been deployed anew), or no answer
)


class CrewInputs:
    """The inputs of all crews, as last heard."""

    def __init__(self, crews: Mapping[str, Crew], clock: Clock) -> None:
        self._crews = crews
        self._clock = clock
        self._heard: dict[str, tuple[float, tuple[str, ...] | None]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, crew: str) -> tuple[str, ...] | None:
        """The names of a crew's inputs; None while it does not tell."""
        return await self._names(crew, KEEP)

    async def check(self, request: KickoffRequest) -> None:
        """Raise `RequestRefused` (`missing_inputs`) if the crew is known to need more; a flow needs nothing."""
        if self._crews[request.crew].policy.is_flow:
            return
        for max_age in (KEEP, ASK_AGAIN):
            lacking = missing(await self._names(request.crew, max_age) or (), request.inputs)
            if not lacking:
                return
        raise RequestRefused("missing_inputs", f"the crew needs {', '.join(lacking)}", f"inputs.{lacking[0]}")

    async def _names(self, crew: str, max_age: float) -> tuple[str, ...] | None:
        """At most `max_age` seconds old; asked by one caller at a time, the others wait for its answer."""
        if self.known(crew, max_age):
            return self._heard[crew][1]
        async with self._asking[crew]:
            if not self.known(crew, max_age):
                names = await self._crews[crew].api.inputs()
                self._heard[crew] = (self._clock(), names)
            return self._heard[crew][1]

    def known(self, crew: str, max_age: float = KEEP) -> bool:
        """Whether the crew need not be asked: it has told, or has failed to tell, not long ago."""
        heard_at, names = self._heard.get(crew, (float("-inf"), None))
        return self._clock() - heard_at <= (max_age if names is not None else ASK_AGAIN)


class SharedCheck:
    """`CrewInputs.check` for a listener that crews share, of whose messages at most `places` wait for crews' answers.

    What comes while they all wait is not checked, as if its crew did not tell; the crew refuses it then, at no cost.
    """

    def __init__(self, inputs: CrewInputs, places: int) -> None:
        self._inputs = inputs
        self._places = places

    async def __call__(self, request: KickoffRequest) -> None:
        """Raise `RequestRefused` (`missing_inputs`) if the crew is known to need more."""
        if self._places:
            self._places -= 1
            try:
                await self._inputs.check(request)
            finally:
                self._places += 1
        elif self._inputs.known(request.crew, ASK_AGAIN):
            await self._inputs.check(request)  # which asks nobody
