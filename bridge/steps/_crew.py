"""One configured crew, as the steps see it."""

from dataclasses import dataclass, field

import structlog

from bridge.core.crew.circuit_breaker import Breaker
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.payloads import Webhooks
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import (
    CrewUnavailable,
    KickoffResponse,
    Refused,
    ResumeResponse,
    Started,
    StatusResponse,
)
from bridge.core.crew.webhook_reliability import WebhookReliability
from bridge.core.human_input import rules
from bridge.core.polling.planner import PollPlanner
from bridge.core.runs import state_machine
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import CrewPolicy, Run, TrackedRun
from bridge.ports.crew_api import CrewApi, CrewFigures
from bridge.ports.lifecycle import Clock
from bridge.steps._pending_questions import PendingQuestions
from bridge.steps._tracker import RunTracker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Crew:
    """A crew's API, what the operator decided for it, what was learned of it, and what is kept in mind of its runs."""

    name: str
    api: CrewApi
    policy: CrewPolicy
    max_running: int
    planner: PollPlanner
    breaker: Breaker = field(default_factory=Breaker)
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)
    share: FairShare = field(default_factory=FairShare)
    budgets: Budgets = UNLIMITED
    webhooks: Webhooks | None = None
    webhook_reliability: WebhookReliability = field(default_factory=WebhookReliability)
    tracker: RunTracker = field(default_factory=RunTracker)
    questions: PendingQuestions = field(default_factory=PendingQuestions)

    def pause_if_unavailable(self, answer: KickoffResponse | ResumeResponse | StatusResponse, now: float) -> bool:
        """Whether an answer says that the crew itself cannot be used; then it is left alone until a probe works."""
        if not isinstance(answer, CrewUnavailable):
            return False
        if self.breaker.trip(reason := _without_api_text(answer.reason), now):
            log.error("crew_paused", crew=self.name, reason=reason)
        return True

    def track(self, run: Run, now: float, first_poll: float | None = None) -> None:
        """Look at a run that is under way from now on; `first_poll`: when, if not as for one that has just begun."""
        tracked = state_machine.tracked_from_run(run, self.policy, now)
        self.tracker.track(tracked, self.next_poll_at(tracked, now) if first_poll is None else first_poll)

    def next_poll_at(self, tracked: TrackedRun, now: float, after: float | None = None) -> float:
        """When to look at a run again; `after`: how long the API asked us to wait, in seconds.

        Rarely, if a webhook will most likely tell us when; one that has done so was too early, and will not come again.
        """
        at_fallback_interval = self.webhook_reliability.reliable and not self.tracker.completion_signalled(
            tracked.run_id
        )
        pause = self.planner.pause(tracked, now)
        return rules.next_poll_at(tracked, self.policy, now, pause, after, at_fallback_interval=at_fallback_interval)

    def figures(self, clock: Clock) -> CrewFigures:
        """How things stand, for the metrics."""
        rate_limiter = (
            0.0 if self.breaker.is_open or self.rate_limiter.backing_off(clock()) else self.rate_limiter.per_second
        )
        return CrewFigures(self.breaker.is_open, rate_limiter, len(self.tracker), self.tracker.queue.overdue)

    @property
    def paused(self) -> str | None:
        """Why the crew cannot be used now, as the HTTP code that said so."""
        return self.breaker.reason if self.breaker.is_open else None


def failure_reason(answer: KickoffResponse) -> str | None:
    """Why an answer names no execution, as everybody may read it."""
    if isinstance(answer, Started):
        return None
    return _without_api_text(answer.message if isinstance(answer, Refused) else answer.reason)


def _without_api_text(reason: str) -> str:
    """Our words of a reason, like `HTTP 422`; after a colon come the API's, which may quote inputs."""
    return reason.partition(":")[0]
