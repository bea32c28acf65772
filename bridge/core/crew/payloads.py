"""A run → the bodies of `POST /kickoff` and `POST /resume`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.core.crew import webhook_tokens
from bridge.core.crew.webhooks import STREAMED, Kind
from bridge.core.runs.model import CrewPolicy, Run


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Where the crew API can reach us: our public URL, and the key that makes the paths unguessable."""

    public_url: str
    key: bytes

    def members(self, run: Run) -> dict[str, Any]:
        """The members of a kickoff's body that ask for webhooks (crew API contract, section 6).

        The URL-only form for human input is the one that was seen to work; the token in the path is what authenticates.
        """
        base = (
            f"{self.public_url}/amp/{webhook_tokens.issue(self.key, webhook_tokens.Attempt(run.run_id, run.attempt))}"
        )
        return {
            "crewWebhookUrl": f"{base}/{Kind.CREW}",
            "taskWebhookUrl": f"{base}/{Kind.TASK}",
            "humanInputWebhookUrl": f"{base}/{Kind.HUMAN}",
            "webhooks": {"events": list(STREAMED), "url": f"{base}/{Kind.STREAM}", "realtime": True},
        }


def kickoff_body(run: Run, policy: CrewPolicy, webhooks: Webhooks | None = None) -> dict[str, Any]:
    """The body to send. Inputs are always wrapped: a flow takes a bare body with 200 and runs on defaults.

    `meta` carries our ids beside the producer's own, because it is the only thing that the API gives back.
    """
    inputs = dict(run.request.inputs) if policy.is_flow else _as_text(run.request.inputs)
    meta = {**run.request.meta, "bridge_run_id": run.run_id, "bridge_attempt": run.attempt}
    return {"inputs": inputs, "meta": meta} | (webhooks.members(run) if webhooks else {})


def resume_body(run: Run, webhooks: Webhooks | None = None) -> dict[str, Any]:
    """The body with a human's answer: the names that the API reads and, beside them, those that are documented.

    Always with the id of the kickoff, however often it was resumed; webhooks are not inherited and named again.
    """
    question = run.human_input.question
    assert question is not None
    members = {
        ("executionId", "execution_id"): run.kickoff_id,
        ("taskId", "task_id"): question.content.task_id,
        ("humanFeedback", "human_feedback"): question.feedback,
        ("isApprove", "is_approve"): question.approve,
    }
    body = {name: value for names, value in members.items() for name in names}
    return body | (webhooks.members(run) if webhooks else {})


def _as_text(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Make every value text: crews do so by Python's `str`, which spoils true, null and objects."""
    return {name: _text(value) for name, value in inputs.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
