"""A crew's webhooks are relied on once they were heard, and no longer once ends come in silence."""

from bridge.core.crew.webhook_reliability import WebhookReliability


def after(*webhook_seen: bool, ends: list[bool] | None = None) -> WebhookReliability:
    webhook_reliability = WebhookReliability()
    for each in webhook_seen:
        webhook_reliability.on_first_poll(webhook_seen=each)
    for each in ends or []:
        webhook_reliability.on_run_ended(completion_signalled=each)
    return webhook_reliability


def test_nothing_is_relied_on_before_it_was_seen():
    assert not after().reliable


def test_it_takes_sixteen_runs_in_a_row_that_were_heard_of():
    assert not after(*[True] * 15).reliable
    assert after(*[True] * 16).reliable


def test_announced_ends_alone_show_nothing_of_runs_to_come():
    assert not after(ends=[True] * 99).reliable


def test_trust_that_is_just_earned_is_lost_with_the_first_silent_run():
    assert not after(*[True] * 16, False).reliable


def test_a_long_record_forgives_two_silent_ends_in_a_row_and_not_a_third():
    assert after(*[True] * 200, ends=[False] * 2).reliable
    assert not after(*[True] * 200, ends=[False] * 3).reliable


def test_lost_trust_can_be_earned_again():
    assert after(*[True] * 200, ends=[False] * 200 + [True] * 16).reliable
    assert after(*[True] * 200, *[False] * 200, *[True] * 16).reliable


def test_every_other_webhook_is_never_enough():
    webhook_reliability = after()
    for number in range(400):
        webhook_reliability.on_first_poll(webhook_seen=number % 2 == 0)
        webhook_reliability.on_run_ended(completion_signalled=number % 2 == 0)
        assert not webhook_reliability.reliable
