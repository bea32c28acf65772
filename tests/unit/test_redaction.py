"""Redaction of known secrets in external content: every encoding is found, and other text is unchanged."""

import base64
import json
from urllib.parse import quote

import pytest

from bridge.core.crew import webhook_tokens
from bridge.core.crew.responses import Failed, Running
from bridge.core.crew.tasks import ReportedTasks
from bridge.core.delivery.outcome import CallbackReply, Confirmed, Retryable
from bridge.core.redaction import MASK, Redactor
from bridge.core.runs.model import Task

SECRET = 'crew "token"/5e1f?0a77é'
PLAIN = "plain-token-0123456789"
LONG = "x " * 2000


@pytest.fixture
def redactor() -> Redactor:
    return Redactor([SECRET, PLAIN, "short"])


@pytest.mark.parametrize("around", ["", LONG], ids=["short text", "long text"])
@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        quote(SECRET),
        quote(SECRET, safe=""),
        SECRET.encode().hex(),
        PLAIN,
    ],
)
def test_a_secret_is_found_in_every_encoding(redactor: Redactor, written: str, around: str) -> None:
    assert redactor.text(f"{around}401 for Bearer {written}, sorry") == f"{around}401 for Bearer {MASK}, sorry"


@pytest.mark.parametrize("user", ["a", "bc", "def", "bridge"])
def test_basic_credentials_are_found_at_every_offset(redactor: Redactor, user: str) -> None:
    credentials = base64.b64encode(f"{user}:{PLAIN}".encode()).decode()
    redacted = redactor.text(f"Basic {credentials}")
    assert MASK in redacted
    assert PLAIN.encode() not in base64.b64decode(redacted.split(MASK)[0].removeprefix("Basic ") + "====")


def test_short_secrets_and_other_text_are_unchanged(redactor: Redactor) -> None:
    text = "short plain-token-01234 Bearer abc /amp/x/crew"
    assert redactor.text(text) == text
    assert Redactor().text(PLAIN) == PLAIN


def test_former_secrets_are_redacted(redactor: Redactor) -> None:
    redactor.learn(["a-newer-token-9876"])
    assert redactor.text(f"{PLAIN} and a-newer-token-9876") == f"{MASK} and {MASK}"


def test_the_token_in_a_webhook_url_is_redacted() -> None:
    token = webhook_tokens.issue(b"k" * 32, webhook_tokens.Attempt("01920000-0000-7000-8000-000000000001", 1))
    assert (
        Redactor().text(f"bad URL https://b.example/amp/{token}/crew") == f"bad URL https://b.example/amp/{MASK}/crew"
    )


def test_json_is_redacted_in_texts_and_keys_only(redactor: Redactor) -> None:
    clean = {"a": [1, 2.5, None, True, "text"], "b": {"c": "d"}}
    assert redactor.value(clean) is clean
    assert redactor.value(None) is None
    assert redactor.value({PLAIN: [PLAIN, 7, {"x": f"<{PLAIN}>"}]}) == {MASK: [MASK, 7, {"x": f"<{MASK}>"}]}


def test_a_secret_cut_off_at_the_end_of_a_text_is_found(redactor: Redactor) -> None:
    assert redactor.fields(Failed(f"401 for {PLAIN[:12]}")) == Failed(f"401 for {MASK}")
    assert redactor.fields(Failed(f"401 for {PLAIN[:6]}")) == Failed(f"401 for {PLAIN[:6]}")
    assert redactor.fields(Failed(f"{PLAIN[:12]} 401")) == Failed(f"{PLAIN[:12]} 401")


def test_responses_are_redacted_in_every_field(redactor: Redactor) -> None:
    assert redactor.fields(Running({"log": PLAIN})) == Running({"log": MASK})
    cut = ReportedTasks((Task(PLAIN, None, {"key": PLAIN}), Task(None, None, f"cut off: {PLAIN[:-1]}")))
    masked = ReportedTasks((Task(MASK, None, {"key": MASK}), Task(None, None, f"cut off: {MASK}")))
    assert redactor.fields(Running(None, cut)) == Running(None, masked)
    response = redactor.fields(Retryable(f"HTTP 500 {PLAIN}", 5.0, CallbackReply(500, b"\xff" + PLAIN.encode())))
    assert response == Retryable(f"HTTP 500 {MASK}", 5.0)
    assert response.reply == CallbackReply(500, b"\xff***")
    assert redactor.fields(Confirmed()) == Confirmed()
