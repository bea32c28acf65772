"""A crew's webhooks count as reliable after they signalled the end of enough runs, until runs end without one."""

from bridge.core.crew.webhook_reliability import WebhookReliability


def after(*webhook_seen: bool, ends: list[bool] | None = None) -> WebhookReliability:
    webhook_reliability = WebhookReliability()
    for each in webhook_seen:
        webhook_reliability.on_first_poll(webhook_seen=each)
    for each in ends or []:
        webhook_reliability.on_run_ended(completion_signalled=each)
    return webhook_reliability


def test_webhooks_are_unreliable_at_first():
    assert not after().reliable


def test_sixteen_announced_runs_in_a_row_make_webhooks_reliable():
    assert not after(*[True] * 15).reliable
    assert after(*[True] * 16).reliable


def test_announced_ends_alone_do_not_make_webhooks_reliable():
    assert not after(ends=[True] * 99).reliable


def test_at_the_threshold_one_silent_end_makes_webhooks_unreliable():
    assert not after(*[True] * 16, False).reliable


def test_a_long_record_tolerates_two_silent_ends_in_a_row():
    assert after(*[True] * 200, ends=[False] * 2).reliable
    assert not after(*[True] * 200, ends=[False] * 3).reliable


def test_webhooks_can_become_reliable_again():
    assert after(*[True] * 200, ends=[False] * 200 + [True] * 16).reliable
    assert after(*[True] * 200, *[False] * 200, *[True] * 16).reliable


def test_every_other_webhook_is_not_reliable():
    webhook_reliability = after()
    for number in range(400):
        webhook_reliability.on_first_poll(webhook_seen=number % 2 == 0)
        webhook_reliability.on_run_ended(completion_signalled=number % 2 == 0)
        assert not webhook_reliability.reliable
