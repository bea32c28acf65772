"""What a human says to an execution's question: whether it was said before, where it goes, and in which words."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.errors import RequestRefused
from bridge.core.human_input.model import QuestionContent
from bridge.core.json import canonical
from bridge.core.runs.model import CrewPolicy

APPROVED = "Approved."  # the crew API reads the text, not the flag; with any remark it would take it for instructions

_APPROVALS = ("approved", "approve", "approved.", "yes", "ok", "accept", "accepted")


@dataclass(frozen=True, slots=True)
class Resume:
    """Somebody's answer. `approve` without any remark lets the execution go on; `task_id` says to which question.

    `key` is the sender's own name for this answer; `redelivered`: a broker may have brought it before.
    """

    feedback: str | None = None
    approve: bool | None = None
    task_id: str | None = None
    key: str | None = None
    redelivered: bool = False


def digest(command: Resume) -> str:
    """What tells one answer from another, whoever brings it."""
    return hashlib.sha256(canonical([command.feedback, command.approve, command.task_id])).hexdigest()


def taken_before(taken: Iterable[tuple[str | None, str]], command: Resume, content: str) -> bool:
    """Whether this is a message that was taken already, by its key, or by its content if a broker brings it again."""
    if command.key is not None:
        return (command.key, content) in taken
    return command.redelivered and any(content == earlier for _, earlier in taken)


def has_address(content: QuestionContent, policy: CrewPolicy) -> bool:
    """Whether an answer can be sent: flows say where, crews need the question's name."""
    return (content.callback_url if policy.is_flow else content.task_id) is not None


def check_address(content: QuestionContent, policy: CrewPolicy) -> None:
    """Raises `RequestRefused`, with what to do about it, where an answer cannot be sent."""
    if policy.is_flow and content.callback_url is None:
        raise RequestRefused("not_waiting", "the flow has not said where its answer goes; answer in the dashboard")
    if not policy.is_flow and content.task_id is None:
        raise RequestRefused("invalid_request", "the crew API has not told the question's task_id; name it", "task_id")


def feedback_text(feedback: str | None, approve: bool | None, content: QuestionContent, policy: CrewPolicy) -> str:  # noqa: FBT001 - as sent
    """What is sent. A crew that gets an approval with a remark works once more; a flow may know only its options.

    Raises `RequestRefused` where nothing is said.
    """
    said = (feedback or "").strip()
    if not said and not approve:
        raise RequestRefused("invalid_request", "must say something, unless approve is true", "feedback")
    if not policy.is_flow:
        return APPROVED if approve else said
    wanted = [said.casefold()] if said else []
    option = _option(content.options, [*wanted, *(_APPROVALS if approve else ())])
    return option or said or APPROVED


def _option(options: Iterable[str], wanted: Iterable[str]) -> str | None:
    """The flow's own option that is meant: text that it cannot place would be an error there."""
    by_name = {option.casefold(): option for option in options}
    return next((by_name[name] for name in wanted if name in by_name), None)
