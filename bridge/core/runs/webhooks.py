"""What a webhook of a crew concerns, seen from the run that its token names."""

from bridge.core.crew.webhooks import CrewWebhook
from bridge.core.runs.model import TRACKED_STATES, Run, State


def concerns(run: Run, attempt: int, webhook: CrewWebhook) -> bool:
    """Return whether a webhook that the execution of this attempt sent says anything that the run does not know."""
    if is_superseded(run, attempt, webhook.kickoff_id):
        return True
    if run.state in TRACKED_STATES:
        return webhook.concerns_tracked_run
    if run.state is State.STARTING:
        return webhook.concerns_tracked_run or webhook.kickoff_id is not None
    if run.final and run.kickoff_id is not None:
        return ends_ended_run(run, webhook)
    return webhook.kickoff_id is not None


def ends_ended_run(run: Run, webhook: CrewWebhook) -> bool:
    """Return whether a webhook says that the execution of a run that has ended has ended as well."""
    return run.final and webhook.poll_now and webhook.kickoff_id in {None, run.kickoff_id}


def is_superseded(run: Run, attempt: int, kickoff_id: str | None) -> bool:
    """Return whether another attempt has started this execution beside the run's own."""
    return attempt != run.attempt and run.kickoff_id is not None and kickoff_id not in {None, run.kickoff_id}
