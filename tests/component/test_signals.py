"""Signals reach the workers that they concern."""

import pytest

from bridge.core.delivery.model import Channel, Delivery, Destination, Event
from bridge.signals import Signals


def test_recover_signals_every_worker_that_claims_ownerless_runs():
    signals = Signals()
    claim_ownerless = [
        "recover",
        "late-results-research",
        "late-results-triage",
        "human-input-research",
        "human-input-triage",
    ]
    workers = [signals[name] for name in [*claim_ownerless, "kickoff-research", "poll-research"]]
    signals.recover()
    assert [worker.is_set() for worker in workers] == [True] * len(claim_ownerless) + [False, False]


@pytest.mark.parametrize(
    ("channels", "broker", "callbacks"),
    [
        ([], True, True),
        ([Channel.EXCHANGE], True, False),
        ([Channel.CALLBACK], False, True),
        ([Channel.QUEUE, Channel.CALLBACK], True, True),
    ],
)
def test_new_deliveries_signal_their_senders(channels: list[Channel], broker: bool, callbacks: bool):
    signals = Signals()
    event = Event("e-1", "run.succeeded", b"{}", "application/json", 0.0)
    signals.deliver([Delivery("d-1", event, Destination(channel, "x"), due_at=0.0) for channel in channels])
    assert [signals[name].is_set() for name in ("deliver-broker", "deliver-callbacks")] == [broker, callbacks]
