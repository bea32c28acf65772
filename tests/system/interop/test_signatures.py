"""Signatures and the reference libraries of Standard Webhooks: each side accepts those of the other."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from bridge.core.errors import NotVerified
from bridge.core.inbound.signatures import StandardWebhooks, standard_webhooks_key
from tests.system.interop import javascript
from tests.system.interop.environment import NEW, OLD, SECRETS, Results

BODY = '{"topic": "otters and ünïcödé 🦦"}'
UNPADDED = NEW.rstrip("=")


@pytest.mark.parametrize("secret", [*SECRETS, NEW.removeprefix("whsec_"), UNPADDED])
def test_the_python_library_accepts_every_callback_with_either_secret(structured: Results, secret: str):
    assert structured.posts
    for headers, body in structured.posts:
        assert Webhook(secret).verify(body, headers)["id"] == headers["webhook-id"]


def test_the_python_library_refuses_a_callback_changed_in_transit(structured: Results):
    headers, body = structured.posts[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(body.replace(b"research", b"resourch"), headers)


@pytest.mark.usefixtures("with_javascript")
def test_the_javascript_library_accepts_every_callback_with_either_secret(structured: Results):
    """The receiver verifies with both."""
    assert structured.posted_to_javascript
    assert [line for line in structured.posted_to_javascript if "refused" in line] == []


@pytest.mark.usefixtures("with_javascript")
@pytest.mark.parametrize("secret", [NEW, OLD, NEW.removeprefix("whsec_")])
def test_a_webhook_signed_by_the_javascript_library_is_accepted(secret: str):
    now = int(time.time())
    headers = javascript.run("sender.mjs", secret, "msg_js", str(now), BODY)
    check(secret, headers, now)


@pytest.mark.parametrize("secret", [NEW, OLD, NEW.removeprefix("whsec_"), UNPADDED])
def test_a_webhook_signed_by_the_python_library_is_accepted(secret: str):
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_py",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_py", now, BODY),
    }
    check(secret, headers, now.timestamp())


def check(secret: str, headers: dict[str, Any], now: float) -> None:
    """Valid as it is, and invalid with any other body."""
    verify = StandardWebhooks((standard_webhooks_key(secret),))
    received = {name: [value] for name, value in headers.items()}
    assert verify(received, BODY.encode(), now)
    with pytest.raises(NotVerified):
        verify(received, BODY.replace("otters", "badgers").encode(), now)
