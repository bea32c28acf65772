"""What a crew webhook means for the run that its token identifies."""

from dataclasses import replace

from bridge.core.crew.tasks import with_task
from bridge.core.crew.webhooks import CrewWebhook
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input import rules
from bridge.core.human_input.model import QuestionStage
from bridge.core.runs import state_machine
from bridge.core.runs.model import TRACKED_STATES, Decision, Run, State, Task


def is_relevant(run: Run, attempt: int, webhook: CrewWebhook) -> bool:
    """Return whether a webhook from this attempt's execution can change the run or its tracking."""
    if is_superseded(run, attempt, webhook.kickoff_id) or disproves(run, webhook.kickoff_id):
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
    return run.final and webhook.ended


def is_superseded(run: Run, attempt: int, kickoff_id: str | None) -> bool:
    """Return whether an earlier attempt started this execution, in addition to the run's own."""
    another = run.kickoff_id is not None and kickoff_id not in {None, run.kickoff_id}
    return another and attempt != run.attempt and not disproves(run, kickoff_id)


def disproves(run: Run, kickoff_id: str | None) -> bool:
    """Return whether an execution is not the one that an operator named, which the API has never known."""
    return run.unverified and run.state in TRACKED_STATES and kickoff_id not in {None, run.kickoff_id}


def on_evidence(run: Run, attempt: int, kickoff_id: str, policy: CrewPolicy, now: float) -> Decision | None:
    """Give a run the execution that this attempt has started; return None if it does not need the evidence."""
    if disproves(run, kickoff_id):
        return rules.on_corrected(run, kickoff_id, verified=True, now=now)
    return state_machine.on_evidence(run, kickoff_id, policy, now, attempt=attempt)


def on_task(run: Run, task: Task) -> Decision | None:
    """Store a finished task; return None if it is known, or if the run has ended."""
    tasks = with_task(run.tasks, task)
    return None if run.final or tasks == run.tasks else Decision(replace(run, tasks=tasks))


def _has_unconfirmed_question(run: Run) -> bool:
    question = run.human_input.question
    return question is not None and question.stage is not QuestionStage.CONFIRMED
