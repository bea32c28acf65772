"""Questions of flows: verification, parsing, and the host that may receive the answer."""

import hashlib
import hmac
from typing import Any

import pytest
from multidict import CIMultiDict

from bridge.core.crew.flow_questions import FlowQuestion, read, same_host, verified
from bridge.core.human_input.model import QuestionContent
from tests.fakes import NOW

SECRET = "shared-with-the-deployment"
CREW = "https://research.example.com"
CALLBACK = "https://app.crewai.com/respond?token=example"
BODY = b'{"flow_id": "k-1"}'


def signed(
    timestamp: str = str(int(NOW)), secret: str | bytes = SECRET, prefix: str = "sha256=", name: str = "X-CrewAI-"
) -> Any:
    key = secret.encode() if isinstance(secret, str) else secret
    digest = hmac.new(key, f"{timestamp}.".encode() + BODY, hashlib.sha256).hexdigest()
    return CIMultiDict({f"{name}Signature": f"{prefix}{digest}", f"{name}Timestamp": timestamp})


@pytest.mark.parametrize("name", ["X-CrewAI-", "X-", "x-crewai-"])
@pytest.mark.parametrize("prefix", ["sha256=", ""])
def test_both_header_pairs_are_accepted_with_and_without_a_prefix(name: str, prefix: str):
    assert verified(signed(prefix=prefix, name=name), BODY, [SECRET], NOW)


@pytest.mark.parametrize("secrets", [[SECRET, "new"], ["new", SECRET]])
def test_any_configured_secret_verifies(secrets: list[str]):
    assert verified(signed(), BODY, secrets, NOW)


@pytest.mark.parametrize("key", ["whsec_c0ffee0123456789", bytes.fromhex("c0ffee0123456789")])
def test_the_key_is_the_text_of_the_secret_or_the_hexadecimal_bytes_in_it(key: str | bytes):
    assert verified(signed(secret=key), BODY, ["another", "whsec_c0ffee0123456789"], NOW)


@pytest.mark.parametrize("secret", ["c0ffee0123456789", "whsec_c0ffee012345678", "whsec_c0ffee 0123456789", "whsec_"])
@pytest.mark.parametrize("key", [bytes.fromhex("c0ffee0123456789"), b""])
def test_no_other_reading_of_the_secret_verifies(secret: str, key: bytes):
    assert not verified(signed(secret=key), BODY, [secret], NOW)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (signed(), BODY + b" "),
        (signed(secret="another"), BODY),
        (signed(str(int(NOW) - 301)), BODY),
        (signed(str(int(NOW) + 301)), BODY),
        (signed("soon"), BODY),
        (signed("²"), BODY),
        (signed("9" * 400), BODY),
        (signed(name="X-Other-"), BODY),
        ({"X-CrewAI-Signature": "sha256=é", "X-CrewAI-Timestamp": str(int(NOW))}, BODY),
        ({}, BODY),
    ],
)
def test_an_invalid_signature_is_not_verified(headers: Any, body: bytes):
    assert not verified(headers, body, [SECRET], NOW)


FLAT = {
    "event_type": "new_request", "id": "q-1", "flow_id": "k-1", "message": "Please review.", "output": "A or B?",
    "emit": ["a", "b"], "callback_url": CALLBACK,
}  # fmt: skip
NESTED = {
    "event": "new_request",
    "request": {"id": 17, "flow_id": "k-1", "message": "Please review.", "emit_options": ["a", "b"]},
    "callback_url": CALLBACK,
}


def test_both_payload_shapes_are_read():
    assert read(FLAT, crew_url=CREW, insecure=False) == FlowQuestion(
        "k-1", QuestionContent("q-1", "A or B?", "Please review.", ("a", "b"), CALLBACK)
    )
    assert read(NESTED, crew_url=CREW, insecure=False) == FlowQuestion(
        "k-1", QuestionContent("17", None, "Please review.", ("a", "b"), CALLBACK)
    )


@pytest.mark.parametrize("body", [None, [], "text", {}, {"flow_id": "../x"}, {"flow_id": 7}, {"request": {}}])
def test_a_payload_without_an_execution_is_not_a_question(body: Any):
    assert read(body, crew_url=CREW, insecure=False) is None


def test_invalid_members_are_dropped():
    odd = {"flow_id": "k-1", "id": True, "output": ["?"], "emit": [1, "a"], "message": ""}
    assert read(odd, crew_url=CREW, insecure=False) == FlowQuestion("k-1", QuestionContent(options=("a",)))
    assert read({**odd, "emit": "a"}, crew_url=CREW, insecure=False) == FlowQuestion("k-1", QuestionContent())


@pytest.mark.parametrize(
    ("url", "crew", "insecure", "usable"),
    [
        ("https://app.crewai.com/x", CREW, False, True),
        ("https://crewai.com/x", CREW, False, True),
        ("https://research.example.com:8443/x", CREW, False, True),
        ("http://app.crewai.com/x", CREW, False, False),
        ("https://app.crewai.com:8443/x", CREW, False, False),
        ("https://app.crewai.com.evil.example/x", CREW, False, False),
        ("https://notcrewai.com/x", CREW, False, False),
        ("https://other.example.com/x", CREW, False, False),
        ("http://127.0.0.1:9/x", "http://127.0.0.1:8", False, True),
        ("http://localhost:9/x", "http://localhost:8", False, True),
        ("http://127.0.0.1:9/x", CREW, False, False),
        ("http://crew.local/x", "http://crew.local", False, False),
        ("http://crew.local/x", "http://crew.local", True, True),
        ("http://10.0.0.7/x", "http://10.0.0.7", False, False),
        ("http://other.local/x", "http://crew.local", True, False),
        ("ftp://app.crewai.com/x", CREW, True, False),
        ("https://user@app.crewai.com/x", CREW, False, False),
        ("https://app.crewai.com:port/x", CREW, False, False),
        ("https:///x", CREW, False, False),
        ("https://app.crewai.com/a b", CREW, False, False),
        ("https://äpp.crewai.com/", CREW, False, False),
        ("https://app.crewai.com/\n", CREW, False, False),
    ],
)
def test_an_answer_is_sent_only_to_an_allowed_host(url: str, crew: str, insecure: bool, usable: bool):
    question = read({**FLAT, "callback_url": url}, crew_url=crew, insecure=insecure)
    assert question is not None
    assert question.content.callback_url == (url if usable else None)


def test_the_settings_can_allow_other_hosts():
    allow = ["https://*.factory.example:8443"]
    for url, usable in (("https://amp.factory.example:8443/x", True), (CALLBACK, False)):
        question = read({**FLAT, "callback_url": url}, crew_url=CREW, insecure=False, allow=allow)
        assert question is not None
        assert (question.content.callback_url is not None) is usable


def test_the_callback_url_is_not_in_the_repr():
    assert "token" not in repr(read(FLAT, crew_url=CREW, insecure=False))


def test_the_host_of_the_crew_is_recognized_on_any_port():
    assert same_host("https://crew.example.com/a", "https://crew.example.com:8443")
    assert not same_host("https://crew.example.com.evil.example/a", "https://crew.example.com")
