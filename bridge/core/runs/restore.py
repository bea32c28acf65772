"""Continue a flow from the state of an earlier run (crew API contract, section 3.7).

The API gives no sign of whether a state was restored: an unknown id runs from defaults. So a run continues only from
one that has succeeded, and the id of its state is determined when the request is accepted.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.core.errors import RequestRefused
from bridge.core.json import check_members, text_member
from bridge.core.runs.model import Envelope, KickoffRequest, RequestWarning, RestoreFrom, Run, State

_NAMES = ("run_id", "kickoff_id")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}(?:\1[0-9a-fA-F]{4}){2}\1[0-9a-fA-F]{12}")
_INPUTS_ID = RequestWarning(
    "inputs_id",
    "the input `id` sets the id of the flow's state: if an earlier execution has this id, its record is overwritten; "
    "to continue from an earlier run, use `restore_from`",
)


def parse(value: Any) -> RestoreFrom | None:
    """Read the member `restore_from` of a request; raise `RequestRefused` unless it names one run."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise RequestRefused("invalid_request", "must be a JSON object", "restore_from")
    check_members(value, _NAMES)
    named = [name for name in _NAMES if text_member(value, name)]
    if len(named) != 1:
        raise RequestRefused("invalid_request", "must contain either run_id or kickoff_id", "restore_from")
    return RestoreFrom(**{named[0]: value[named[0]]})


def check_flow_inputs(inputs: Mapping[str, Any]) -> None:
    """Raise `RequestRefused` if a flow would be refused because of its input `id`, which must be a UUID."""
    given = inputs.get("id")
    if given is not None and not (isinstance(given, str) and _UUID.fullmatch(given)):
        raise RequestRefused(
            "invalid_request", "the id of a flow's state must be a UUID; omit it, if possible", "inputs.id"
        )


def warnings(request: KickoffRequest, *, is_flow: bool) -> tuple[RequestWarning, ...]:
    """Return the warnings about a request that is accepted nevertheless."""
    return (_INPUTS_ID,) if is_flow and request.inputs.get("id") is not None else ()


def with_state_id(request: KickoffRequest, earlier: Run | None, envelope: Envelope) -> KickoffRequest:
    """Return the request with the id of the state that `earlier` has saved.

    Raise `RequestRefused` if the sender may not see that run, or if it has not succeeded.
    """
    assert request.restore_from is not None
    visible = earlier is not None and (envelope.sees_all or earlier.envelope.source == envelope.source)
    if earlier is None or not visible or earlier.crew != request.crew:
        raise RequestRefused("invalid_request", "no run of this flow with this id", "restore_from")
    if earlier.state is not State.SUCCEEDED:
        raise RequestRefused(
            "invalid_request", f"the run to continue from is {earlier.state}, not succeeded", "restore_from"
        )
    own_id = earlier.request.inputs.get("id")
    state_id = own_id if isinstance(own_id, str) else earlier.kickoff_id
    return replace(request, restore_from=replace(request.restore_from, state_id=state_id))
