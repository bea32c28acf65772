"""Probe paused crews until they can be used again."""

from collections.abc import Sequence

import structlog

from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock
from bridge.signals import Signals
from bridge.steps._crew import Crew

TICK = 1.0

log = structlog.get_logger()


class ProbeCrew:
    """Requests a paused crew's inputs, which costs nothing, once a minute."""

    kind = Quarantined.TASK

    def __init__(self, crew: Crew, clock: Clock, signals: Signals) -> None:
        self.name = f"crew-probe-{crew.name}"
        self._crew = crew
        self._clock = clock
        self._signals = signals

    async def claim(self, limit: int) -> Sequence[Crew]:
        """Return the crew if it is paused and a probe is due."""
        breaker = self._crew.breaker
        return [self._crew] if limit and breaker.is_open and self._clock() >= breaker.probe_at else []

    async def handle(self, crew: Crew) -> None:
        """Probe; on success, resume polls, extend deadlines by the length of the pause, and try one kickoff."""
        health = await crew.api.probe()
        paused_for = crew.breaker.on_probe(ok=health.ok, now=self._clock())
        log.info("crew_probed", crew=crew.name, ok=health.ok, detail=health.detail)
        if paused_for:
            crew.tracker.queue.extend_deadlines(paused_for)
            self._signals.kickoff(crew.name)
            self._signals.poll(crew.name)

    def about(self, crew: Crew) -> dict[str, object]:
        """Identify the crew."""
        return {"crew": crew.name}

    async def quarantine(self, crew: Crew) -> None:
        """Count the probe as failed; the next one is due as usual."""
        crew.breaker.on_probe(ok=False, now=self._clock())

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
