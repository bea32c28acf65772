"""Tokens in webhook URLs: readable by whoever holds the key, and by nobody else."""

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
def test_a_token_reads_back_as_what_it_was_issued_for(run_id: object, number: int):
    attempt = Attempt(str(run_id), number)
    assert read(KEY, issue(KEY, attempt)) == attempt


def test_tokens_that_were_issued_long_ago_stay_good():
    """The crew API calls back for as long as a run is under way, whatever version of the bridge started it."""
    token = "AaILremzdICc-uZ6rIWvnQACGoc270dDeP1GMn_fWqastXlqDFU"
    assert issue(KEY, Attempt(RUN, 2)) == token
    assert read(KEY, token) == Attempt(RUN, 2)


def test_a_token_fits_into_a_path():
    assert re.fullmatch(r"[A-Za-z0-9_-]{40,60}", issue(KEY, Attempt(RUN, 1)))


def test_every_attempt_has_its_own():
    assert len({issue(KEY, Attempt(RUN, number)) for number in range(1, 9)}) == 8


@given(st.text(max_size=80))
def test_whatever_was_not_issued_is_nothing(text: str):
    assert read(KEY, text) is None


@pytest.mark.parametrize("text", ["", "a", "a b", "é", "-" * 51])
def test_neither_is_what_could_not_be_a_token(text: str):
    assert read(KEY, text) is None


def test_each_character_counts():
    token = issue(KEY, Attempt(RUN, 1))
    for place in range(len(token) - 1):  # the last one holds padding bits only
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert read(KEY, changed) is None
    assert read(b"another", token) is None
