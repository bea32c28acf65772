"""Build the bodies of `POST /kickoff` and `POST /resume` from a run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.core.crew import webhook_tokens
from bridge.core.crew.webhooks import STREAMED, Kind
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs.model import Run


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Where the crew API can reach the bridge: the public URL, and the key that makes the paths unguessable."""

    public_url: str
    key: bytes

    def members(self, run: Run) -> dict[str, Any]:
        """Return the members of a body that request webhooks (crew API contract, section 6).

        For human input, only the form with a bare URL was seen to work; the token in the path authenticates.
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


def kickoff_body(
    run: Run, policy: CrewPolicy, webhooks: Webhooks | None = None, traceparent: str | None = None
) -> dict[str, Any]:
    """Return the kickoff body. Inputs are always wrapped: a flow accepts a bare body with 200 and runs on defaults.

    `meta` carries the bridge's ids beside the producer's, because it is the only thing that the API returns;
    also the trace context of the POST, if any, because a crew does not see the headers.
    """
    inputs = run.request.inputs if policy.is_flow else _as_text(run.request.inputs)
    meta = {**run.request.meta, "bridge_run_id": run.run_id, "bridge_attempt": run.attempt}
    if traceparent is not None:
        meta["traceparent"] = traceparent
    restored = run.request.restore_from
    restore = {} if restored is None else {"restoreFromStateId": restored.state_id}
    return {"inputs": inputs, "meta": meta} | restore | (webhooks.members(run) if webhooks else {})


def resume_body(run: Run, webhooks: Webhooks | None = None) -> dict[str, Any]:
    """Return the body with an answer, under the names that the API reads and those that are documented.

    It always has the id of the kickoff, even after earlier answers; webhooks are not inherited, so they are repeated.
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
    """Convert every value to text: crews use Python's `str`, which corrupts true, null, and objects."""
    return {name: _text(value) for name, value in inputs.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
