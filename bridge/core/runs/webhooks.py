"""What a crew webhook means for the run that its token identifies."""

from bridge.core.crew.webhooks import CrewWebhook
from bridge.core.human_input.model import QuestionStage
from bridge.core.runs.model import TRACKED_STATES, Run, State


def is_relevant(run: Run, attempt: int, webhook: CrewWebhook) -> bool:
    """Return whether a webhook from this attempt's execution can change the run or its tracking."""
    if is_superseded(run, attempt, webhook.kickoff_id):
        return True
    reports = webhook.ended or webhook.question is not None or webhook.task is not None
    if run.state in TRACKED_STATES:
        return reports or (webhook.resumed and _has_unconfirmed_question(run))
    if run.state is State.STARTING:
        return reports or webhook.kickoff_id is not None
    if run.final and run.kickoff_id is not None:
        return reports_late_end(run, webhook)
    return webhook.kickoff_id is not None


def reports_late_end(run: Run, webhook: CrewWebhook) -> bool:
    """Return whether a webhook reports that the execution of an ended run has ended as well."""
    return run.final and webhook.ended and webhook.kickoff_id in {None, run.kickoff_id}


def is_superseded(run: Run, attempt: int, kickoff_id: str | None) -> bool:
    """Return whether an earlier attempt started this execution, in addition to the run's own."""
    return attempt != run.attempt and run.kickoff_id is not None and kickoff_id not in {None, run.kickoff_id}


def _has_unconfirmed_question(run: Run) -> bool:
    question = run.human_input.question
    return question is not None and question.stage is not QuestionStage.CONFIRMED
