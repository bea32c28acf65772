"""Explain why a run that has not ended is not being processed."""

from dataclasses import dataclass
from enum import StrEnum

from bridge.core.human_input.model import QuestionStage
from bridge.core.runs.model import Run, State


class Reason(StrEnum):
    """What a run is waiting for."""

    RETRY = "retry"
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


def why_waiting(run: Run, *, served: bool = True) -> Waiting | None:
    """Return what the stored run is waiting for; None if it has ended, or nothing stored delays it.

    `served`: whether any replica has the run's crew in its settings.
    """
    if run.final:
        return None
    if not served:
        detail = f"no replica has the crew {run.crew} in its settings; add it, or cancel the run"
        return Waiting(Reason.CREW_NOT_CONFIGURED, detail, run.accepted_at)
    if run.deferral is not None and run.state is not State.STARTING:
        return Waiting(Reason.RETRY, run.deferral.detail, run.deferral.since, run.deferral.until)
    if run.state is State.IN_DOUBT:
        detail = "it is unknown whether the POST started an execution"
        return Waiting(Reason.IN_DOUBT, detail, run.accepted_at if run.sent_at is None else run.sent_at, run.due_at)
    question = run.human_input.question
    if run.state is State.WAITING_FOR_HUMAN and question is not None and question.stage is QuestionStage.OPEN:
        return Waiting(Reason.HUMAN, "the execution waits for human input", question.asked_at, question.answer_by)
    return None
