"""Continuing a flow from an earlier run: which run may be named, and the id of its state."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.errors import RequestRefused
from bridge.core.runs import request, restore
from bridge.core.runs.model import Envelope, RestoreFrom, Run, State
from tests.fakes import KICKOFF_ID, a_request, a_run

OWN = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
ASKED = a_request(restore_from=RestoreFrom(run_id="r-1"))
SENDER = Envelope("queue")


def succeeded(**changes: Any) -> Run:
    return replace(a_run(), state=State.SUCCEEDED, kickoff_id=KICKOFF_ID, **changes)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (None, None),
        ({"run_id": "r-1"}, RestoreFrom(run_id="r-1")),
        ({"kickoff_id": "k-1", "run_id": None}, RestoreFrom(kickoff_id="k-1")),
    ],
)
def test_a_run_is_named_by_one_of_its_ids(value: Any, parsed: RestoreFrom | None):
    assert request.parse({"crew": "research", "restore_from": value}).restore_from == parsed


@pytest.mark.parametrize(
    "value", ["r-1", [], {}, {"run_id": "r", "kickoff_id": "k"}, {"run_id": ""}, {"run_id": 7}, {"state_id": "s"}]
)
def test_anything_else_is_refused(value: Any):
    with pytest.raises(RequestRefused) as refused:
        restore.parse(value)
    assert refused.value.code == "invalid_request"


def test_the_state_of_a_run_has_the_id_of_its_kickoff():
    assert restore.with_state_id(ASKED, succeeded(), SENDER).restore_from == RestoreFrom("r-1", state_id=KICKOFF_ID)


def test_the_state_of_a_run_with_an_input_id_has_that_id():
    earlier = succeeded(request=a_request(inputs={"id": OWN, "topic": "peat"}))
    assert restore.with_state_id(ASKED, earlier, SENDER).restore_from == RestoreFrom("r-1", state_id=OWN)


@pytest.mark.parametrize(
    "earlier",
    [
        None,
        succeeded(request=a_request("another")),
        succeeded(envelope=Envelope("client/other")),
        replace(a_run(), state=State.FAILED, kickoff_id=KICKOFF_ID),
        replace(a_run(), state=State.RUNNING, kickoff_id=KICKOFF_ID),
    ],
)
def test_only_a_visible_run_of_the_flow_that_succeeded_can_be_continued(earlier: Run | None):
    with pytest.raises(RequestRefused) as refused:
        restore.with_state_id(ASKED, earlier, SENDER)
    assert (refused.value.code, refused.value.field) == ("invalid_request", "restore_from")


def test_an_invisible_run_is_not_told_from_an_unknown_one():
    details = set()
    for earlier in (None, succeeded(envelope=Envelope("client/other"))):
        with pytest.raises(RequestRefused) as refused:
            restore.with_state_id(ASKED, earlier, SENDER)
        details.add(refused.value.detail)
    assert len(details) == 1


def test_a_sender_that_sees_all_runs_can_continue_each():
    envelope = Envelope("client/operator", sees_all=True)
    assert restore.with_state_id(ASKED, succeeded(), envelope).restore_from is not None


def test_what_is_asked_belongs_to_the_content_and_what_was_found_does_not():
    found = a_request(restore_from=RestoreFrom("r-1", state_id=OWN))
    assert request.fingerprint(found) == request.fingerprint(ASKED) != request.fingerprint(a_request())
    assert request.fingerprint(ASKED) != request.fingerprint(a_request(restore_from=RestoreFrom(kickoff_id="r-1")))


# The input `id` -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [OWN, OWN.upper(), OWN.replace("-", ""), None])
def test_a_uuid_is_accepted_as_the_input_id_of_a_flow(value: Any):
    restore.check_flow_inputs({"id": value})


@pytest.mark.parametrize("value", ["test 1", "", 7, ["x"], OWN[:-1], f"{OWN}0", f"{OWN}\n", OWN.replace("-", "", 1)])
def test_another_input_id_is_refused(value: Any):
    with pytest.raises(RequestRefused) as refused:
        restore.check_flow_inputs({"id": value})
    assert (refused.value.code, refused.value.field) == ("invalid_request", "inputs.id")


@pytest.mark.parametrize(
    ("inputs", "is_flow", "codes"),
    [({"id": OWN}, True, ["inputs_id"]), ({"id": OWN}, False, []), ({"id": None}, True, []), ({}, True, [])],
)
def test_an_input_id_of_a_flow_causes_a_warning(inputs: dict[str, Any], is_flow: bool, codes: list[str]):
    found = restore.warnings(a_request(inputs=inputs), is_flow=is_flow)
    assert [warning.code for warning in found] == codes
