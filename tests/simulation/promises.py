"""The promises that must hold at the end of a simulated history, whatever happened in it."""

import math
from collections import defaultdict

from bridge.core.crew.responses import Failed, Succeeded
from bridge.core.crew_policy import DoubtPolicy
from tests.simulation.history import LONG, History
from tests.simulation.questions import DEFAULT

FINAL = ("run.succeeded", "run.failed", "run.timed_out", "run.cancelled")


def check(history: History) -> None:
    """Raise `AssertionError` for the first broken promise."""
    history.world.raise_bug()
    nothing_accepted_is_lost_or_duplicated(history)
    nothing_is_paid_for_twice(history)
    every_run_ends_with_one_final_event(history)
    every_event_arrives_with_the_same_bytes(history)
    only_a_post_that_may_have_left_is_in_doubt(history)
    an_end_is_what_the_crew_reported(history)
    a_question_is_answered_once(history)
    limits_are_respected(history)
    every_row_belongs_to_a_live_process_or_to_none(history)


def nothing_accepted_is_lost_or_duplicated(history: History) -> None:
    """I1, I13."""
    stored = {row[0] for row in history.rows("SELECT run_id FROM runs")}
    responses = list(history.responses.values())
    assert len(responses) == history.requests
    assert all(len(run_ids) == 1 for run_ids in responses), "one key, one run"
    assert {run_id for run_ids in responses for run_id in run_ids} == stored


def nothing_is_paid_for_twice(history: History) -> None:
    """I2, I3, I4."""
    permitted = 2 if history.policy.in_doubt is DoubtPolicy.RETRY else 1
    twice = {run_id for run_id, posts in history.world.posts.items() if posts > permitted}
    assert twice <= history.retried, "a second POST without permission"


def every_run_ends_with_one_final_event(history: History) -> None:
    """I7, I8, I14, L1."""
    events = defaultdict(list)
    for run_id, type_ in history.rows("SELECT run_id, type FROM events"):
        events[run_id].append(type_)
    for run_id, state in history.rows("SELECT run_id, state FROM runs"):
        finals = [type_ for type_ in events[run_id] if type_ in FINAL]
        if state == "in_doubt":
            assert history.policy.in_doubt is not DoubtPolicy.FAIL
            assert finals == []
            assert "run.in_doubt" in events[run_id]
        else:
            assert finals == [f"run.{state}"]


def every_event_arrives_with_the_same_bytes(history: History) -> None:
    """I9, I10, I11, L2."""
    received: defaultdict[tuple[str, str], set[bytes]] = defaultdict(set)
    for event_id, target, body in history.world.received:
        received[event_id, target].add(body)
    bodies: defaultdict[str, set[bytes]] = defaultdict(set)
    for (event_id, _), sent in received.items():
        bodies[event_id] |= sent
    assert all(len(different) == 1 for different in bodies.values())
    query = "SELECT delivery_id, event_id, target, state FROM deliveries"
    for delivery_id, event_id, target, state in history.rows(query):
        if state == "delivered":
            assert (event_id, target) in received, "called delivered, but never arrived"
        else:
            assert delivery_id in history.world.gone, f"{state} without a reason"


def only_a_post_that_may_have_left_is_in_doubt(history: History) -> None:
    in_doubt = {row[0] for row in history.rows("SELECT run_id FROM events WHERE type = 'run.in_doubt'")}
    given_up = {row[0] for row in history.rows("SELECT run_id FROM given_up")} if history.several else set()
    assert in_doubt <= history.world.doubtful | given_up


def an_end_is_what_the_crew_reported(history: History) -> None:
    """I15, and no run tracks the execution of another."""
    query = "SELECT run_id, state, kickoff_id, error_code FROM runs WHERE kickoff_id IS NOT NULL"
    for run_id, state, kickoff_id, code in history.rows(query):
        execution = history.world.executions[kickoff_id]
        assert execution.run_id == run_id
        if state == "succeeded":
            assert isinstance(execution.end, Succeeded)
        if code == "execution_failed":
            assert isinstance(execution.end, Failed)
        if state == "timed_out":
            # A clock set forward before a restart cannot be distinguished from a bridge that was down that long.
            waits = execution.ends_at == math.inf
            assert waits or history.policy.deadline < LONG or history.clock_is_off_by > 600


def a_question_is_answered_once(history: History) -> None:
    """I2 for answers: one POST per question, with the answer that was confirmed to one human."""
    for execution in history.world.executions.values():
        assert execution.posts <= 1, "a question was answered twice"
        assert len(execution.confirmed) <= 1, "two humans were confirmed the same question"
        assert set(execution.sent) <= execution.confirmed | {DEFAULT}


def limits_are_respected(history: History) -> None:
    """I18 for the slots of a crew: they are shared by all processes."""
    assert history.most_places <= history.slots


def every_row_belongs_to_a_live_process_or_to_none(history: History) -> None:
    """At any time; and processes that stopped in order have released everything."""
    assert history.unverified == set()
    assert history.owners() == set()
    assert history.members() == set()
