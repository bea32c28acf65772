"""One configured crew, as the steps see it."""

from dataclasses import dataclass, field

import structlog

from bridge.core import humans, lifecycle
from bridge.core.answers import CrewUnavailable, KickoffAnswer, Refused, ResumeAnswer, Started, StatusAnswer, Succeeded
from bridge.core.breaker import Breaker
from bridge.core.budget import UNLIMITED, Budgets
from bridge.core.crew_call import Webhooks
from bridge.core.hints import TasksDone
from bridge.core.learning import Learning
from bridge.core.model import Asked, CrewPolicy, Run, Watch
from bridge.core.pace import Pace
from bridge.core.recent import Recent
from bridge.core.timetable import Timetable
from bridge.core.trust import Trust
from bridge.ports import Clock, CrewApi, CrewFigures

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Early:
    """A question of an execution whose run is not known yet: when to look for it, and how long."""

    asked: Asked
    due_at: float
    until: float


@dataclass(frozen=True, slots=True)
class Crew:
    """A crew's API, what the operator decided for it, when its runs are looked at next, whether it may be called."""

    name: str
    api: CrewApi
    policy: CrewPolicy
    max_running: int
    learning: Learning
    timetable: Timetable = field(default_factory=Timetable)
    breaker: Breaker = field(default_factory=Breaker)
    pace: Pace = field(default_factory=Pace)
    budgets: Budgets = UNLIMITED
    webhooks: Webhooks | None = None
    trust: Trust = field(default_factory=Trust)
    announced: dict[str, Succeeded | None] = field(default_factory=dict)
    """Runs under way whose end a webhook announced, with the result that it carried."""
    looking: set[str] = field(default_factory=set)
    """Runs that are being looked at, and go back to the timetable after that."""
    heard: set[str] = field(default_factory=set)
    """Runs of which a webhook has come."""
    evidence: dict[str, str] = field(default_factory=dict)
    """Kickoff ids that webhooks brought for runs whose POST is still awaited."""
    early: dict[str, Early] = field(default_factory=dict)
    """Questions of executions, by kickoff id, that no run was known to have."""
    recent: Recent = field(default_factory=Recent)
    """Followed runs as this process wrote them last, where nobody else has written them since, as far as is known."""
    altered: set[str] = field(default_factory=set)
    """Followed runs that were written by others than those who look at them."""
    tasks: dict[str, TasksDone] = field(default_factory=dict)
    """What webhooks reported of tasks that are done, by run."""

    def pause_if_turned_away(self, answer: KickoffAnswer | ResumeAnswer | StatusAnswer, now: float) -> bool:
        """Whether an answer says that the crew itself cannot be used; then it is left alone until a probe works."""
        if not isinstance(answer, CrewUnavailable):
            return False
        if self.breaker.trip(reason := _own_words(answer.reason), now):
            log.error("crew_paused", crew=self.name, reason=reason)
        return True

    def follow(self, run: Run, now: float, first_look: float | None = None) -> None:
        """Look at a run that is under way from now on; `first_look`: when, if not as for one that has just begun."""
        watch = lifecycle.watch_of(run, self.policy, now)
        self.timetable.put(watch, self.next_look(watch, now) if first_look is None else first_look)

    def look_again(self, run: Run) -> None:
        """A run was written while it is, or may be, followed: look now, with what is new in mind.

        One that has no owner and is not followed here begins with what is written by then, wherever that will be.
        """
        if run.state in humans.FOLLOWED and (run.owner is not None or self._follows(run.run_id)):
            self.altered.add(run.run_id)
            self.recent.take(run.run_id)
            self.timetable.hasten(run.run_id)

    def forget(self, run_id: str) -> None:
        """A run is over, or another process's: nothing of it is kept in mind, and a look under way is the last."""
        self.timetable.drop(run_id)
        self.recent.take(run_id)
        for noted in (self.announced, self.tasks):
            noted.pop(run_id, None)
        for noticed in (self.heard, self.altered, self.looking):
            noticed.discard(run_id)

    def follow_nothing(self) -> None:
        """All that was followed is no longer ours; looks under way are the last."""
        self.timetable.clear()
        self.looking.clear()

    def _follows(self, run_id: str) -> bool:
        return run_id in self.timetable or run_id in self.looking

    def next_look(self, watch: Watch, now: float, after: float | None = None) -> float:
        """When to look at a run again; `after`: how long the API asked us to wait, in seconds.

        Rarely, if a webhook will most likely tell us when; one that has done so was too early, and will not come again.
        """
        stretched = self.trust.earned and watch.run_id not in self.announced
        pause = self.learning.pause(watch, now)
        return humans.next_look(watch, self.policy, now, pause, after, stretched=stretched)

    def figures(self, clock: Clock) -> CrewFigures:
        """How things stand, for the metrics."""
        pace = 0.0 if self.breaker.is_open or self.pace.resting(clock()) else self.pace.per_second
        followed = len(self.timetable) + len(self.looking)
        return CrewFigures(self.breaker.is_open, pace, followed, self.timetable.overdue)

    @property
    def paused(self) -> str | None:
        """Why the crew cannot be used now, as the HTTP code that said so."""
        return self.breaker.reason if self.breaker.is_open else None


def reason_of(answer: KickoffAnswer) -> str | None:
    """Why an answer names no execution, as everybody may read it."""
    if isinstance(answer, Started):
        return None
    return _own_words(answer.message if isinstance(answer, Refused) else answer.reason)


def _own_words(reason: str) -> str:
    """Our words of a reason, like `HTTP 422`; after a colon come the API's, which may quote inputs."""
    return reason.partition(":")[0]
