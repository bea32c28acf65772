"""Fields of a JSON object: known and unknown ones, and types."""

from typing import Any

import pytest

from bridge.core.errors import RequestRefused
from bridge.core.json import check_members, text_member


@pytest.mark.parametrize(("body", "known"), [({}, ()), ({"crew": 7}, {"crew", "inputs"})])
def test_known_fields_are_accepted_with_any_value(body: dict[str, Any], known: set[str]):
    check_members(body, known)


@pytest.mark.parametrize("known", [set(), {"crew"}])
def test_an_unknown_field_is_named(known: set[str]):
    with pytest.raises(RequestRefused, match=r"^unknown field 'deadlin'$") as refused:
        check_members({"deadlin": "5m"}, known)
    assert (refused.value.code, refused.value.field) == ("invalid_request", "deadlin")


def test_text_may_be_absent_or_null_but_no_other_type():
    assert [text_member(body, "feedback") for body in ({}, {"feedback": None}, {"feedback": ""})] == [None, None, ""]
    with pytest.raises(RequestRefused, match=r"^must be a string$") as refused:
        text_member({"feedback": 7}, "feedback")
    assert (refused.value.code, refused.value.field) == ("invalid_request", "feedback")
