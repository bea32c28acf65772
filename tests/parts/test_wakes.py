"""Who is woken by what."""

from bridge.signals import Wakes


def test_a_run_without_an_owner_wakes_all_who_take_such_up():
    wakes = Wakes()
    for_it = ["recover", "late-research", "late-triage", "resume-research", "resume-triage"]
    workers = [wakes[name] for name in [*for_it, "kickoff-research", "poll-research"]]
    wakes.take_up()
    assert [worker.is_set() for worker in workers] == [True] * len(for_it) + [False, False]
