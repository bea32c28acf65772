"""Events and signed callbacks for unit tests of receivers are what a bridge would send."""

import time
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from standardwebhooks import Webhook, WebhookVerificationError

from bridge.documents import event_schema
from bridge.events import KnownEvent, RunSucceeded, RunWaitingForHuman, parse
from bridge.testing import CALLBACK_SECRET, make_callback, make_event

TYPES = [get_args(model.model_fields["type"].annotation)[0] for model in get_args(KnownEvent)]


@pytest.mark.parametrize("type_", TYPES)
def test_an_event_of_each_type_fits_the_published_schema(type_: str):
    event = make_event(type_, crew="triage")
    assert [error.message for error in Draft202012Validator(event_schema()).iter_errors(event)] == []
    assert parse(event).source == "/crews/triage"


def test_members_of_its_data_are_given_by_name():
    event = parse(make_event(result="Tea.", meta={"order": 7}, idempotency_key="order-7"))
    assert isinstance(event, RunSucceeded)
    assert (event.data.result, event.data.meta, event.data.idempotency_key) == ("Tea.", {"order": 7}, "order-7")
    asking = parse(make_event("run.waiting_for_human"))
    assert isinstance(asking, RunWaitingForHuman)


@pytest.mark.parametrize(
    ("type_", "data", "reason"),
    [
        ("run.done", {}, "there is no event type 'run.done'; use run.succeeded, "),
        ("run.failed", {"result_text": ""}, "`data` of run.failed has no member 'result_text'"),
        ("request.rejected", {"run_id": "1"}, "`data` of request.rejected has no member 'run_id'"),
        ("run.failed", {"error": None}, "error"),
        ("run.succeeded", {"polls": "many"}, "polls"),
    ],
)
def test_an_event_that_no_bridge_would_send_is_refused(type_: str, data: dict[str, Any], reason: str):
    with pytest.raises(ValueError, match=reason):
        make_event(type_, **data)


def test_a_callback_is_signed_for_now():
    callback = make_callback()
    event = Webhook(CALLBACK_SECRET).verify(callback.body, callback.headers)
    assert callback.headers["webhook-id"] == event["id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(CALLBACK_SECRET).verify(callback.body + b" ", callback.headers)


def test_a_callback_may_be_old_or_signed_with_another_secret():
    old = make_callback(make_event(), at=time.time() - 3600)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(CALLBACK_SECRET).verify(old.body, old.headers)
    foreign = make_callback(secret="whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    with pytest.raises(WebhookVerificationError):
        Webhook(CALLBACK_SECRET).verify(foreign.body, foreign.headers)
