"""Check requests against the crew's inputs, so that an incomplete one is refused before it costs anything."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from bridge.core.errors import RequestRefused
from bridge.core.runs.model import KickoffRequest
from bridge.core.runs.request import missing_inputs
from bridge.ports.lifecycle import Clock
from bridge.steps._crew import Crew

CACHE_FOR = 600.0  # seconds
REFRESH_AFTER = 10.0  # seconds until inputs are requested again after a refusal (of a redeployed crew) or a failure


class CrewInputs:
    """Keeps the inputs of all crews as last requested; `ports.ListInputs`."""

    def __init__(self, crews: Mapping[str, Crew], clock: Clock) -> None:
        self._crews = crews
        self._clock = clock
        self._cached: dict[str, tuple[float, tuple[str, ...] | None]] = {}
        self._requesting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, crew: str) -> tuple[str, ...] | None:
        """Return the names of a crew's inputs; None while they are unknown."""
        return await self._names(crew, CACHE_FOR)

    async def check(self, request: KickoffRequest) -> None:
        """Raise `RequestRefused` (`missing_inputs`) if the request lacks an input of its crew; a flow requires none."""
        if self._crews[request.crew].policy.is_flow:
            return
        for max_age in (CACHE_FOR, REFRESH_AFTER):
            lacking = missing_inputs(await self._names(request.crew, max_age) or (), request.inputs)
            if not lacking:
                return
        raise RequestRefused("missing_inputs", f"the crew requires {', '.join(lacking)}", f"inputs.{lacking[0]}")

    async def _names(self, crew: str, max_age: float) -> tuple[str, ...] | None:
        """Return names at most `max_age` seconds old; concurrent callers share one request."""
        if self.known(crew, max_age):
            return self._cached[crew][1]
        async with self._requesting[crew]:
            if not self.known(crew, max_age):
                names = await self._crews[crew].api.inputs()
                self._cached[crew] = (self._clock(), names)
            return self._cached[crew][1]

    def known(self, crew: str, max_age: float = CACHE_FOR) -> bool:
        """Return whether the inputs, or a recent failure to get them, are cached."""
        requested_at, names = self._cached.get(crew, (float("-inf"), None))
        return self._clock() - requested_at <= (max_age if names is not None else REFRESH_AFTER)


class BoundedInputCheck:
    """`CrewInputs.check` for a listener that crews share: at most `slots` messages wait for a crew's inputs.

    While all slots are taken, other messages are accepted unchecked; the crew API refuses incomplete ones at no cost.
    """

    def __init__(self, inputs: CrewInputs, slots: int) -> None:
        self._inputs = inputs
        self._slots = slots

    async def __call__(self, request: KickoffRequest) -> None:
        """Raise `RequestRefused` (`missing_inputs`) if the request lacks an input of its crew."""
        if self._slots:
            self._slots -= 1
            try:
                await self._inputs.check(request)
            finally:
                self._slots += 1
        elif self._inputs.known(request.crew, REFRESH_AFTER):
            await self._inputs.check(request)  # answered from the cache
