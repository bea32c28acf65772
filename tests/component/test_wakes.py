"""Who is woken by what."""

from bridge.signals import Signals


def test_a_run_without_an_owner_wakes_all_who_take_such_up():
    signals = Signals()
    for_it = ["recover", "late-research", "late-triage", "resume-research", "resume-triage"]
    workers = [signals[name] for name in [*for_it, "kickoff-research", "poll-research"]]
    signals.recover()
    assert [worker.is_set() for worker in workers] == [True] * len(for_it) + [False, False]
