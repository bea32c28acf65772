"""Build and sign a flow's question to a human: the webhook of the deployment (crew API contract 6.6).

The flat body and the `X-Crewai-` headers were captured in the field; the nested body and the plain headers are
documented only.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from bridge.sandbox.execution import TASKS, Execution
from bridge.sandbox.outputs import output_of
from bridge.sandbox.settings import FlowHitlShape

OPTIONS = ("approved", "rejected")
"""The answers that the flow offers."""

_PREFIX: Mapping[FlowHitlShape, str] = {"flat": "X-Crewai-", "nested": "X-"}
_DEPLOYMENT = {"id": 456, "name": "Sandbox", "organization_id": 789}


def token(execution: Execution) -> str:
    """Return the secret in the callback URL of the open question."""
    return execution.derived_id(f"token of {execution.question_id}").replace("-", "")


def callback_url(execution: Execution, base_url: str) -> str:
    """Return the address that takes the answer to the open question."""
    return f"{base_url}/human_feedback_requests/{execution.question_id}/respond?token={token(execution)}"


def question(execution: Execution, task: int, at: float, base_url: str, shape: FlowHitlShape) -> Mapping[str, object]:
    """Return the body of the webhook."""
    created_at = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    request: dict[str, object] = {
        "id": execution.question_id,
        "flow_id": execution.state_id,
        "method_name": TASKS[task].name,
        "message": "Please review.",
        "state": execution.state,
        "metadata": {"otel_trace_context": "cafe6a48:248dbaff"},
        "created_at": created_at,
    }
    answer = {"callback_url": callback_url(execution, base_url), "assigned_to_email": "reviewer@example.com"}
    if shape == "nested":
        request["emit_options"] = OPTIONS
        return {"event": "new_request", "request": request, "deployment": _DEPLOYMENT, **answer}
    return {
        "event_type": "new_request",
        **request,
        "status": "pending",
        "flow_class": "sandbox.flows.SandboxFlow",
        "output": output_of(execution, task),
        "emit": OPTIONS,
        **answer,
        "assigned_at": created_at,
        "response_token": token(execution),
        "deployment_id": _DEPLOYMENT["id"],
        "deployment_name": _DEPLOYMENT["name"],
    }


def signature(key: bytes, body: bytes, now: float, shape: FlowHitlShape) -> Mapping[str, str]:
    """Return the headers that prove the body: HMAC-SHA256 over `{timestamp}.{raw body}`."""
    timestamp = str(int(now))
    digest = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    prefix = _PREFIX[shape]
    return {f"{prefix}Signature": f"sha256={digest}", f"{prefix}Timestamp": timestamp}
