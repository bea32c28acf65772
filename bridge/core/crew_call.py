"""A run → the body of `POST /kickoff`."""

import json
from collections.abc import Mapping
from typing import Any

from bridge.core.model import CrewPolicy, Run


def kickoff_body(run: Run, policy: CrewPolicy) -> dict[str, Any]:
    """The body to send. Inputs are always wrapped: a flow takes a bare body with 200 and runs on defaults.

    `meta` carries our ids beside the producer's own, because it is the only thing that the API gives back.
    """
    inputs = _as_text(run.request.inputs) if policy.stringify_inputs else dict(run.request.inputs)
    return {"inputs": inputs, "meta": {**run.request.meta, "bridge_run_id": run.run_id, "bridge_attempt": run.attempt}}


def _as_text(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Make every value text: crews do so by Python's `str`, which spoils true, null and objects."""
    return {name: _text(value) for name, value in inputs.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
