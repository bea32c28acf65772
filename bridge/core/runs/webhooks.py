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
    if is_superseded(run, attempt, webhook) or disproves(run, webhook):
        return True
    reports = webhook.ended or webhook.question is not None or webhook.task is not None
    if run.state in TRACKED_STATES:
        return reports or (webhook.resumed and run.human_input.stage not in {None, QuestionStage.CONFIRMED})
    if run.state is State.STARTING:
        return reports or webhook.kickoff_id is not None
    if run.final and run.kickoff_id is not None:
        return reports_late_end(run, webhook)
    return webhook.kickoff_id is not None


def reports_late_end(run: Run, webhook: CrewWebhook) -> bool:
    """Return whether a webhook reports that the execution of an ended run has ended as well."""
    return run.final and webhook.ended


def is_superseded(run: Run, attempt: int, webhook: CrewWebhook) -> bool:
    """Return whether an earlier attempt started this execution, in addition to the run's own."""
    return attempt != run.attempt and _names_another(run, webhook) and not disproves(run, webhook)


def disproves(run: Run, webhook: CrewWebhook) -> bool:
    """Return whether a webhook corrects an id that the API has never known, from an operator or an uncertain webhook.

    Of uncertain webhooks, only an end does so, because the execution itself ends after all inner ones.
    """
    unknown = run.unverified and run.state in TRACKED_STATES
    return unknown and _names_another(run, webhook) and (webhook.certain or webhook.ended)


def on_evidence(run: Run, attempt: int, evidence: CrewWebhook, policy: CrewPolicy, now: float) -> Decision | None:
    """Give a run the execution that this attempt has started; return None if it does not need the evidence.

    An uncertain id is unverified until the API knows it, so that a run with a wrong one is not lost.
    """
    assert evidence.kickoff_id is not None
    if disproves(run, evidence):
        return rules.on_corrected(run, evidence.kickoff_id, verified=evidence.certain, now=now)
    found = state_machine.on_evidence(run, evidence.kickoff_id, policy, now, attempt=attempt)
    if found is None or evidence.certain or found.run.final:
        return found
    return replace(found, run=replace(found.run, unverified=True))


def on_task(run: Run, task: Task) -> Decision | None:
    """Store a finished task, which confirms an answer; return None if it changes nothing, or if the run has ended."""
    decision = rules.on_activity(run) or Decision(run)
    updated = replace(decision.run, tasks=with_task(run.tasks, task))
    return None if run.final or updated == run else Decision(updated)


def _names_another(run: Run, webhook: CrewWebhook) -> bool:
    return run.kickoff_id is not None and webhook.kickoff_id not in {None, run.kickoff_id}
