"""Tokens in webhook URLs: readable only with the key."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.crew.webhook_tokens import Attempt, issue, read

KEY = b"k" * 32
RUN = "01a20bad-e9b3-7480-9cfa-e67aac85af9d"


@given(st.uuids(), st.integers(min_value=1))
@example(RUN, 65_535)
@example(RUN, 65_536)
def test_a_token_decodes_to_its_attempt(run_id: object, number: int):
    attempt = Attempt(str(run_id), number)
    assert read(KEY, issue(KEY, attempt)) == attempt


def test_tokens_of_earlier_versions_stay_valid():
    """The crew API calls webhooks for as long as an execution is active, whichever version of the bridge started it."""
    token = "AaILremzdICc-uZ6rIWvnQACGoc270dDeP1GMn_fWqastXlqDFU"
    assert issue(KEY, Attempt(RUN, 2)) == token
    assert read(KEY, token) == Attempt(RUN, 2)


def test_a_token_is_a_valid_path_segment():
    assert re.fullmatch(r"[A-Za-z0-9_-]{40,60}", issue(KEY, Attempt(RUN, 1)))


def test_every_attempt_has_a_token_of_its_own():
    assert len({issue(KEY, Attempt(RUN, number)) for number in range(1, 9)}) == 8


@given(st.text(max_size=80))
def test_a_token_that_was_not_issued_is_none(text: str):
    assert read(KEY, text) is None


@pytest.mark.parametrize("text", ["", "a", "a b", "é", "-" * 51])
def test_text_that_is_not_a_token_is_none(text: str):
    assert read(KEY, text) is None


def test_any_changed_character_invalidates_a_token():
    token = issue(KEY, Attempt(RUN, 1))
    for place in range(len(token) - 1):  # the last character holds only padding bits
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert read(KEY, changed) is None
    assert read(b"another", token) is None
