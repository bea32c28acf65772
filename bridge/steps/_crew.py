"""One configured crew as the steps use it: its API, its policy, and what this process knows about it."""

from dataclasses import dataclass, field

import structlog

from bridge.core.crew.circuit_breaker import Breaker
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.inputs import InputCache
from bridge.core.crew.payloads import Webhooks
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import (
    CrewUnavailable,
    KickoffResponse,
    ResumeResponse,
    StatusResponse,
    without_api_text,
)
from bridge.core.crew.webhook_reliability import WebhookReliability
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input import rules
from bridge.core.polling import PollPlanner
from bridge.core.runs import timing, tracking
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Run, TrackedRun
from bridge.core.runs.waiting import CrewSituation, minute
from bridge.ports.crew_api import CrewApi, CrewFigures
from bridge.ports.lifecycle import Clock
from bridge.ports.queries import Usage
from bridge.steps._tracker import RunTracker

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Crew:
    """A crew's API and policy, with the long-lived objects that keep its limits, run times, inputs, and runs."""

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
    inputs: InputCache = field(default_factory=InputCache)

    def use(self, policy: CrewPolicy, max_running: int, per_second: float, budgets: Budgets) -> None:
        """Apply changed settings from now on."""
        self.policy, self.max_running, self.budgets = policy, max_running, budgets
        self.planner.use(policy)
        self.rate_limiter.use(per_second)
        self.inputs = InputCache()

    def pause_if_unavailable(self, response: KickoffResponse | ResumeResponse | StatusResponse, now: float) -> bool:
        """Pause the crew until a probe succeeds if a response says that it cannot be used; return whether it does."""
        if not isinstance(response, CrewUnavailable):
            return False
        if self.breaker.trip(reason := without_api_text(response.reason), now):
            log.error("crew_paused", crew=self.name, reason=reason)
        return True

    def track(self, run: Run, now: float, first_poll: float | None = None) -> None:
        """Track a run from now on; `first_poll`: when, if not at the time planned for a run that has just started."""
        tracked = tracking.tracked_from_run(run, self.policy, now)
        if self.policy.is_flow and (state_id := run.request.inputs.get("id")) is not None:
            self.tracker.set_state_id(run.run_id, state_id)
        self.tracker.track(tracked, self.next_poll_at(tracked, now) if first_poll is None else first_poll)

    def next_poll_at(self, tracked: TrackedRun, now: float, after: float | None = None) -> float:
        """Return the time of a run's next poll; `after`: seconds that the API asked the bridge to wait.

        While webhooks are reliable, polls use the fallback interval, unless a webhook has already signalled the
        completion of this run: it came too early and will not come again. Polls are rare while a question is open, and
        one is made when an answer, or its effect, is due. After an answer they are regular, because it is not certain
        that an execution sends webhooks when it continues.
        """
        signalled_at = self.tracker.known(tracked.run_id).completion_signalled_at
        no_question = tracked.human_input.question is None
        expects_webhook = self.webhook_reliability.reliable and no_question and signalled_at is None
        due = self.planner.next_poll_at(tracked, now, after, at_fallback_interval=tracked.waiting or expects_webhook)
        due = min([due, *(at for at in rules.deadlines(tracked.human_input.question) if at > now)])
        again = timing.signalled_end_poll_at(signalled_at, now)
        return due if again is None else min(due, max(again, now + (after or 0.0)))

    def figures(self, clock: Clock) -> CrewFigures:
        """Return the crew's gauges."""
        stopped = self.breaker.is_open or self.rate_limiter.backing_off(clock())
        request_rate = 0.0 if stopped else self.rate_limiter.per_second
        return CrewFigures(self.breaker.is_open, request_rate, len(self.tracker), self.tracker.queue.overdue)

    def situation(self, usage: Usage, now: float) -> CrewSituation:
        """Return what delays the crew's runs now: what this process knows, and what the store says about its limits."""
        return CrewSituation(
            now,
            writable=usage.writable,
            pause=self.breaker.pause,
            backoff=self.rate_limiter.backoff(now),
            kickoffs_limited=self.rate_limiter.kickoffs_waiting > 0,
            max_running=self.max_running,
            slots_held=usage.slots_held.get(self.name, 0),
            crew_budget=usage.crew_budgets.get(self.name),
            sender_budgets=usage.sender_budgets,
        )

    def problem(self, now: float) -> str | None:
        """Return why the crew cannot be used now: the refusal that paused it, or its silence; None if it can."""
        if self.breaker.is_open:
            return self.breaker.reason
        since = self.rate_limiter.unresponsive_since(now)
        return None if since is None else f"no response since {minute(since)}"


class Crews(dict[str, Crew]):
    """The configured crews. Steps that hold a run of a removed crew can still look it up."""

    def __init__(self) -> None:
        super().__init__()
        self._removed: dict[str, Crew] = {}

    def remove(self, name: str) -> Crew:
        """Remove a crew from those that are configured."""
        crew = self._removed[name] = self.pop(name)
        return crew

    def __missing__(self, name: str) -> Crew:
        return self._removed[name]
