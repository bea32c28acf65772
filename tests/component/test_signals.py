"""Signals reach the workers that they concern."""

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
