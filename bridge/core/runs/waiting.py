"""Explain why a run that has not ended is not being processed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from bridge.core.crew.circuit_breaker import Pause
from bridge.core.crew.rate_limiter import Backoff
from bridge.core.human_input.model import QuestionStage
from bridge.core.runs import history
from bridge.core.runs.budget import SpentBudget
from bridge.core.runs.model import Run, State
from bridge.core.runs.request import format_duration

_CAUSES = {
    "HTTP 401": "the crew refuses our token",
    "HTTP 402": "the plan of the crew's account has lapsed",
    "HTTP 403": "the crew refuses our token, or its quota is spent",
    "HTTP 404": "no crew answers at the configured URL",
    "HTTP 407": "the proxy refuses our calls",
}


class Reason(StrEnum):
    """What a run is waiting for."""

    SLOT = "slot"
    BUDGET = "budget"
    CREW_PAUSED = "crew_paused"
    RATE_LIMITED = "rate_limited"
    RETRY = "retry"
    HELD = "held"
    STORE = "store"
    IN_DOUBT = "in_doubt"
    HUMAN = "human"
    CREW_NOT_CONFIGURED = "crew_not_configured"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A reason with a detail for people; `until`: when the run continues by itself, None if that is not known."""

    reason: Reason
    detail: str
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class CrewSituation:
    """What a process knows about a crew at the time `at`. By default, nothing that delays its runs is known.

    `served`: any process has the crew in its settings. `writable`: storage can be written. `slots_held`: by its runs,
    of `max_running` (None: unknown). `kickoffs_limited`: kickoffs wait for permits of the rate limiter.
    `sender_budgets`: those that are spent.
    """

    at: float = -math.inf
    served: bool = True
    writable: bool = True
    pause: Pause | None = None
    backoff: Backoff | None = None
    kickoffs_limited: bool = False
    max_running: int | None = None
    slots_held: int = 0
    crew_budget: SpentBudget | None = None
    sender_budgets: Mapping[str, SpentBudget] = field(default_factory=dict)


UNKNOWN = CrewSituation()


def why_waiting(run: Run, crew: CrewSituation = UNKNOWN) -> Waiting | None:
    """Return what a run is waiting for; None if it has ended, is being processed, or nothing known delays it."""
    if run.final:
        return None
    if not crew.served:
        detail = f"no bridge has the crew {run.crew} in its settings; add it, or cancel the run"
        return Waiting(Reason.CREW_NOT_CONFIGURED, detail, run.accepted_at)
    if run.state is State.STARTING:
        return None
    if run.held:
        detail = "the run was held when a bridge was started with --hold or on a backup; `runs release` lets it start"
        return Waiting(Reason.HELD, detail, run.accepted_at)
    return _paused(run, crew) or _retried(run, crew) or _by_state(run, crew)


def minute(at: float) -> str:
    """Format seconds since the epoch for a sentence."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _paused(run: Run, crew: CrewSituation) -> Waiting | None:
    """Return the pause of the crew if it delays the run: its kickoff, its polls, or the submission of an answer."""
    pause = crew.pause
    if pause is None or run.state is State.IN_DOUBT or _asks_human(run):
        return None
    if pause.probed and run.state is not State.ACCEPTED:
        return None
    cause = _CAUSES.get(pause.reason, "the crew cannot be used now")
    detail = f"{cause}: {pause.reason} since {minute(pause.since)}"
    if pause.probed:
        detail += "; it may work again, and one kickoff is tried first"
    return Waiting(Reason.CREW_PAUSED, detail, max(pause.since, run.accepted_at))


def _retried(run: Run, crew: CrewSituation) -> Waiting | None:
    """Return what postpones the run: its deferral, or an attempt that did not start it."""
    if run.deferral is not None:
        deferral = run.deferral
        postponed = deferral.until > crew.at
        return Waiting(Reason.RETRY, deferral.detail, deferral.since, deferral.until) if postponed else None
    if run.state is State.ACCEPTED and run.attempt and run.due_at is not None and run.due_at > crew.at:
        why = history.last_reason(run.history, "deferred")
        detail = f"attempt {run.attempt} did not start an execution" + (f": {why}" if why else "")
        return Waiting(Reason.RETRY, detail, run.accepted_at, run.due_at)
    return None


def _by_state(run: Run, crew: CrewSituation) -> Waiting | None:
    question = run.human_input.question
    if run.state is State.IN_DOUBT:
        detail = "it is unknown whether the POST started an execution"
        return Waiting(Reason.IN_DOUBT, detail, run.accepted_at if run.sent_at is None else run.sent_at, run.due_at)
    if question is not None and _asks_human(run):
        return Waiting(Reason.HUMAN, "the execution waits for human input", question.asked_at, question.answer_by)
    if run.state is State.ACCEPTED and not crew.writable:
        return Waiting(Reason.STORE, "storage cannot be written, so no run is started", run.accepted_at)
    if run.state is State.ACCEPTED:
        return _spent(run, crew) or _without_slot(run, crew) or _rate_limited(run, crew)
    return _rate_limited(run, crew)


def _asks_human(run: Run) -> bool:
    return run.state is State.WAITING_FOR_HUMAN and run.human_input.stage is QuestionStage.OPEN


def _spent(run: Run, crew: CrewSituation) -> Waiting | None:
    """Return the spent budget that permits a start last."""
    found = [(crew.crew_budget, f"the crew {run.crew}"), (crew.sender_budgets.get(run.envelope.source), "the client")]
    spent = [(budget.until, budget, whose) for budget, whose in found if budget is not None]
    if not spent:
        return None
    until, budget, whose = max(spent, key=lambda each: each[0])
    detail = f"the budget of {whose} is spent: {budget.runs} runs in {format_duration(budget.per)}"
    return Waiting(Reason.BUDGET, detail, run.accepted_at, until)


def _without_slot(run: Run, crew: CrewSituation) -> Waiting | None:
    if crew.max_running is None or crew.slots_held < crew.max_running:
        return None
    detail = f"{crew.slots_held} runs of the crew are in progress, of at most {crew.max_running}"
    return Waiting(Reason.SLOT, detail, run.accepted_at)


def _rate_limited(run: Run, crew: CrewSituation) -> Waiting | None:
    if crew.backoff is not None:
        detail = "calls to the crew are suspended, because it refused several or did not answer"
        return Waiting(Reason.RATE_LIMITED, detail, max(crew.backoff.since, run.accepted_at), crew.backoff.until)
    if run.state is State.ACCEPTED and crew.kickoffs_limited:
        return Waiting(Reason.RATE_LIMITED, "kickoffs wait for the crew's rate limit", run.accepted_at)
    return None
