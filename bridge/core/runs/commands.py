"""Commands of producers and operators: what each does to a run, and when it is refused.

No command changes a run while its POST is in progress, because the response could overtake the command.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

from bridge.core.crew import responses
from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import PostInProgress, RequestRefused
from bridge.core.human_input import rules
from bridge.core.human_input.feedback import Resume
from bridge.core.json import check_members, text_member
from bridge.core.runs import history, state_machine
from bridge.core.runs.model import TRACKED_STATES, Decision, Run, State
from bridge.core.values import kind_name


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the run for its producer now."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Start a run in doubt again; the operator accepts the risk of a second execution."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Name the execution of a run in doubt, or of a held run.

    `force`: also if the API does not know it. `verified`: whether the API knew it when it was polled for this command.
    """

    kickoff_id: str
    force: bool = False
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Abandon:
    """Give up a run in doubt."""


RunCommand = Cancel | Retry | Adopt | Abandon | Resume


def apply_command(run: Run, command: RunCommand, policy: CrewPolicy, now: float) -> Decision | None:
    """Apply a command to a run; return None if it changes nothing.

    Raises `PostInProgress` (retry in a moment), or `RequestRefused` if the run has ended, is not in doubt, or has no
    open question.
    """
    if run.state is State.STARTING and not isinstance(command, Resume):
        raise PostInProgress(run.run_id, run.log_fields)
    match command:
        case Resume():
            return rules.accept_answer(run, command, policy, now)
        case Cancel():
            return _cancel(run, policy, now)
        case Retry():
            return Decision(state_machine.requeue(_require_in_doubt(run), now))
        case Adopt():
            return _adopt(run, command, policy, now)
        case Abandon():
            return state_machine.on_abandoned(_require_in_doubt(run), "abandoned by an operator", policy, now)
        case _:
            assert_never(command)


def record_command(run: Run, command: RunCommand, by: str, reason: str | None, now: float) -> Run:
    """Return the run with the command in its history, for `apply_command`, which drops it if it changes nothing."""
    name, kickoff_id = kind_name(type(command)), command.kickoff_id if isinstance(command, Adopt) else None
    return history.record(run, "command", now, command=name, by=by, reason=reason, kickoff_id=kickoff_id)


def read_resume(body: Mapping[str, Any], key: str | None, *, redelivered: bool = False) -> Resume:
    """Read an answer from untrusted JSON; raises `RequestRefused` naming the field."""
    check_members(body, {"feedback", "approve", "task_id"})
    approve = body.get("approve")
    if approve is not None and not isinstance(approve, bool):
        raise RequestRefused("invalid_request", "must be true or false", "approve")
    return Resume(text_member(body, "feedback"), approve, text_member(body, "task_id"), key, redelivered)


def _cancel(run: Run, policy: CrewPolicy, now: float) -> Decision | None:
    if run.state is State.CANCELLED:
        return None
    if run.final:
        raise RequestRefused("run_is_over", f"the run has already ended: {run.state}")
    return state_machine.on_cancelled(run, policy, now)


def _adopt(run: Run, command: Adopt, policy: CrewPolicy, now: float) -> Decision | None:
    if not responses.usable_kickoff_id(command.kickoff_id):
        raise RequestRefused(
            "invalid_request", "must be the id of an execution: 1 to 128 letters, digits, - or _", "kickoff_id"
        )
    if run.unverified and run.state in TRACKED_STATES:
        return rules.on_corrected(run, command.kickoff_id, verified=command.verified, now=now)
    posted = state_machine.as_posted(run, run.attempt + 1, now) if run.held else _require_in_doubt(run)
    evidence = state_machine.on_evidence(posted, command.kickoff_id, policy, now)
    return evidence and replace(evidence, run=replace(evidence.run, unverified=not command.verified))


def _require_in_doubt(run: Run) -> Run:
    if run.state is not State.IN_DOUBT:
        raise RequestRefused("not_in_doubt", f"the run is {run.state}, not in_doubt")
    return run
