"""Find out when a paused crew can be used again."""

from collections.abc import Sequence

import structlog

from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.steps._crew import Crew

TICK = 1.0

log = structlog.get_logger()


class Probe:
    """Asks a paused crew for its inputs, which costs nothing, once a minute."""

    kind = Quarantined.TASK

    def __init__(self, crew: Crew, clock: Clock, notify_kickoff: Notify, notify_poll: Notify) -> None:
        self.name = f"probe-{crew.name}"
        self._crew = crew
        self._clock = clock
        self._notify_kickoff = notify_kickoff
        self._notify_poll = notify_poll

    async def claim(self, room: int) -> Sequence[Crew]:
        """The crew, when it is paused and a probe is due."""
        breaker = self._crew.breaker
        return [self._crew] if room and breaker.is_open and self._clock() >= breaker.probe_at else []

    async def handle(self, crew: Crew) -> None:
        """Probe; when the crew answers, looks go on, deadlines are put off, and one kickoff is tried."""
        found = await crew.api.probe()
        stood_still = crew.breaker.on_probe(ok=found.ok, now=self._clock())
        log.info("crew_probed", crew=crew.name, ok=found.ok, detail=found.detail)
        if stood_still:
            crew.tracker.queue.extend_deadlines(stood_still)
            self._notify_kickoff()
            self._notify_poll()

    def about(self, crew: Crew) -> dict[str, object]:
        """Which crew it is."""
        return {"crew": crew.name}

    async def quarantine(self, crew: Crew) -> None:
        """Probe it again when the next probe is due."""
        crew.breaker.on_probe(ok=False, now=self._clock())

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
