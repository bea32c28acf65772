"""The answer to a question: detection of repeats, whether it can be sent, and the text to send."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import RequestRefused
from bridge.core.human_input.model import QuestionContent
from bridge.core.json import canonical

APPROVED = "Approved."  # the crew API reads the text, not the flag; any remark would count as instructions

_APPROVALS = ("approved", "approve", "approved.", "yes", "ok", "accept", "accepted")


@dataclass(frozen=True, slots=True)
class Resume:
    """An answer to a question. `approve` without feedback lets the execution continue; `task_id` names the question.

    `key` is the sender's idempotency key; `redelivered`: the broker may have delivered this message before.
    """

    feedback: str | None = None
    approve: bool | None = None
    task_id: str | None = None
    key: str | None = None
    redelivered: bool = False


def digest(command: Resume) -> str:
    """Return a hash that identifies the content of an answer, regardless of its sender."""
    return hashlib.sha256(canonical([command.feedback, command.approve, command.task_id])).hexdigest()


def is_repeat(accepted: Iterable[tuple[str | None, str]], command: Resume, content: str) -> bool:
    """Return whether this message was accepted already, by its key, or by its content if the broker redelivered it."""
    if command.key is not None:
        return (command.key, content) in accepted
    return command.redelivered and any(content == earlier for _, earlier in accepted)


def has_address(content: QuestionContent, policy: CrewPolicy) -> bool:
    """Return whether an answer can be sent: a flow must have named a callback URL, a crew's question an id."""
    return (content.callback_url if policy.is_flow else content.task_id) is not None


def check_address(content: QuestionContent, policy: CrewPolicy) -> None:
    """Raise `RequestRefused` if an answer cannot be sent; the message says what to do."""
    if policy.is_flow and content.callback_url is None:
        raise RequestRefused("not_waiting", "the flow has not provided a callback URL; answer in the dashboard")
    if not policy.is_flow and content.task_id is None:
        raise RequestRefused(
            "invalid_request",
            "the crew API has not reported the task_id of the question; add it to the answer",
            "task_id",
        )


def feedback_text(feedback: str | None, approve: bool | None, content: QuestionContent, policy: CrewPolicy) -> str:  # noqa: FBT001 - as sent
    """Return the text to send. An approval with a remark makes a crew work again; a flow may accept only its options.

    Raises `RequestRefused` if the answer is empty.
    """
    remark = (feedback or "").strip()
    if not remark and not approve:
        raise RequestRefused("invalid_request", "must not be empty unless `approve` is true", "feedback")
    if not policy.is_flow:
        return APPROVED if approve else remark
    wanted = [remark.casefold()] if remark else []
    option = _option(content.options, [*wanted, *(_APPROVALS if approve else ())])
    return option or remark or APPROVED


def _option(options: Iterable[str], wanted: Iterable[str]) -> str | None:
    """Return the option of the flow that matches; other text would be an error there."""
    by_name = {option.casefold(): option for option in options}
    return next((by_name[name] for name in wanted if name in by_name), None)
