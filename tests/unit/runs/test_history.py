"""The history of a run: what each decision records, and its bounds."""

import json
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    KickoffResponse,
    NotFound,
    NotStarted,
    Refused,
    Running,
    Started,
    Succeeded,
)
from bridge.core.crew_policy import CrewPolicy, DoubtPolicy
from bridge.core.delivery.events import timestamp
from bridge.core.human_input import rules
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import QuestionContent
from bridge.core.runs import history, late_results, quarantine, state_machine, tracking
from bridge.core.runs.commands import Adopt, Cancel, apply_command, record_command
from bridge.core.runs.model import Decision, Envelope, Run
from bridge.core.runs.observation import apply_observation, observe
from tests.fakes import NOW, a_run

POLICY = CrewPolicy(results_exchange=True)
TEXT = "\x00" * 500  # each character takes six bytes in JSON


def starting() -> Run:
    return state_machine.begin(replace(a_run(), owner="me"), NOW + 1)


def running() -> Run:
    return state_machine.on_kickoff(starting(), Started("k-1"), POLICY, NOW + 2).run


def new_entries(before: Run, decision: Decision | None) -> list[dict[str, Any]]:
    """The entries that a decision has added, without their times."""
    assert decision is not None
    added = history.decoded(decision.run.history)[len(history.decoded(before.history)) :]
    return [{name: value for name, value in entry.items() if name != "at"} for entry in added]


def of_length(number: int, **details: str) -> Run:
    """A run with so many entries after its acceptance."""
    run = a_run()
    for attempt in range(1, number + 1):
        run = history.record(run, "posted", NOW + attempt, attempt=attempt, **details)
    return run


def test_a_run_begins_with_its_acceptance_and_its_sender():
    run = a_run(envelope=Envelope("client/shop"))
    assert history.decoded(run.history) == [{"at": NOW, "event": "accepted", "by": "client/shop"}]


def test_the_history_of_a_retry_begins_with_the_run_that_it_repeats():
    [entry] = history.decoded(a_run(retry_of="an-old-run").history)
    assert entry["retry_of"] == "an-old-run"


def test_a_post_that_was_not_sent_leaves_no_trace():
    assert history.decoded(starting().history)[1:] == [{"at": NOW + 1, "event": "posted", "attempt": 1}]
    assert state_machine.undo_begin(starting()).history == a_run().history


@pytest.mark.parametrize(
    ("response", "recorded"),
    [
        (Started("k-1"), [{"event": "answered"}]),
        (
            Refused("HTTP 422: the topic 'secret' is too long"),
            [
                {"event": "refused", "reason": "HTTP 422"},
                {"event": "ended", "state": "failed", "error": "refused"},
            ],
        ),
        (NotStarted("HTTP 429: slow down"), [{"event": "deferred", "reason": "HTTP 429"}]),
        (CrewUnavailable("HTTP 401: token abc"), [{"event": "deferred", "reason": "HTTP 401"}]),
        (InDoubt("HTTP 502: bad gateway"), [{"event": "in_doubt", "reason": "HTTP 502"}]),
    ],
)
def test_a_response_is_recorded_without_text_of_the_api(response: KickoffResponse, recorded: list[dict[str, Any]]):
    run = starting()
    assert new_entries(run, state_machine.on_kickoff(run, response, POLICY, NOW + 2)) == recorded


@pytest.mark.parametrize(
    ("policy", "then"),
    [
        (DoubtPolicy.HOLD, []),
        (DoubtPolicy.RETRY, []),
        (DoubtPolicy.FAIL, [{"event": "ended", "state": "failed", "error": "abandoned"}]),
    ],
)
def test_the_policy_for_a_run_in_doubt_is_recorded(policy: DoubtPolicy, then: list[dict[str, Any]]):
    run = state_machine.on_kickoff(starting(), InDoubt("reset"), POLICY, NOW).run
    decision = state_machine.on_evidence_overdue(run, replace(POLICY, in_doubt=policy), NOW + 900)
    assert new_entries(run, decision) == [{"event": "evidence_overdue", "policy": policy.value}, *then]


def test_an_interrupted_post_says_why_it_is_in_doubt():
    interrupted = state_machine.on_interrupted_kickoff(starting(), POLICY, NOW + 2)
    assert new_entries(starting(), interrupted) == [
        {"event": "in_doubt", "reason": "the process ended during the POST"}
    ]
    quarantined = quarantine.defer(starting(), POLICY, NOW + 2)
    assert new_entries(starting(), quarantined) == [{"event": "in_doubt", "reason": quarantine.DETAIL}]


def test_a_deferral_is_recorded():
    assert new_entries(running(), quarantine.defer(running(), POLICY, NOW + 3)) == [
        {"event": "deferred", "reason": quarantine.DETAIL}
    ]


def test_a_command_is_recorded_before_its_effect():
    run = state_machine.on_kickoff(starting(), InDoubt("reset"), POLICY, NOW).run
    command = Adopt("k-7")
    recorded = record_command(run, command, "client/ops", "seen in the console", NOW + 5)
    assert new_entries(run, apply_command(recorded, command, POLICY, NOW + 5)) == [
        {
            "event": "command",
            "command": "adopt",
            "by": "client/ops",
            "reason": "seen in the console",
            "kickoff_id": "k-7",
        },
        {"event": "execution_found", "kickoff_id": "k-7"},
    ]


def test_the_first_and_the_last_poll_are_recorded_with_writes_that_happen_anyway():
    run = running()
    tracked = tracking.tracked_from_run(run, POLICY, NOW + 2)
    missing = observe(tracked, NotFound(), POLICY, NOW + 3)
    assert missing.changes == ()
    seen = observe(missing.tracked, Running(), POLICY, NOW + 4)
    first = apply_observation(run, seen, POLICY)
    assert history.decoded(first.run.history)[-1] == {"at": NOW + 3, "event": "first_poll"}
    ended = apply_observation(first.run, observe(seen.tracked, Succeeded("ok"), POLICY, NOW + 9), POLICY)
    assert history.decoded(ended.run.history)[-2:] == [
        {"at": NOW + 9, "event": "last_poll", "polls": 3},
        {"at": NOW + 9, "event": "ended", "state": "succeeded"},
    ]


def test_questions_and_answers_are_recorded_without_their_text():
    asked = rules.on_question(running(), QuestionContent("t-1", "Is it good?"), POLICY, NOW + 3)
    assert new_entries(running(), asked) == [{"event": "question", "question": 1}]
    assert asked is not None
    command = Resume("It is good.")
    resumed = record_command(asked.run, command, "client/shop", None, NOW + 4)
    answered = apply_command(resumed, command, POLICY, NOW + 4)
    assert new_entries(asked.run, answered) == [{"event": "command", "command": "resume", "by": "client/shop"}]
    assert answered is not None
    sent = rules.begin_submission(answered.run, NOW + 5)
    assert new_entries(answered.run, sent) == [{"event": "answer_sent", "question": 1}]
    refused = rules.on_submitted(sent.run, 1, Refused("HTTP 400: It is good."), POLICY, NOW + 6)
    assert new_entries(sent.run, refused) == [{"event": "answer_unconfirmed", "question": 1, "reason": "HTTP 400"}]
    deferred = rules.on_submitted(sent.run, 1, NotStarted("HTTP 429: later"), POLICY, NOW + 6)
    assert new_entries(sent.run, deferred) == [{"event": "answer_deferred", "question": 1, "reason": "HTTP 429"}]


def test_a_late_end_is_recorded():
    cancelled = apply_command(running(), Cancel(), POLICY, NOW + 3)
    assert cancelled is not None
    late = late_results.on_poll(cancelled.run, Failed("boom"), POLICY, NOW + 60)
    assert new_entries(cancelled.run, late) == [{"event": "late_result"}]


def test_a_full_history_keeps_the_first_and_the_newest_entries_and_counts_the_others():
    shown = history.decoded(of_length(200).history)
    omitted = 201 - history.MAX_ENTRIES
    attempts = [entry.get("attempt") for entry in shown]
    first = list(range(1, history.KEEP_FIRST))
    assert attempts == [None, *first, None, *range(history.KEEP_FIRST + omitted, 201)]
    assert shown[history.KEEP_FIRST] == {
        "at": NOW + history.KEEP_FIRST + omitted,
        "event": "omitted",
        "entries": omitted,
    }


@pytest.mark.parametrize("number", [1, 2, 3, 50])
def test_the_bytes_of_a_history_are_bounded_whatever_the_texts(number: int):
    run = of_length(number, by=TEXT, reason=TEXT, kickoff_id=TEXT)
    assert len(b"\n".join(run.history)) < history.MAX_BYTES
    newest = json.loads(run.history[-1])
    assert newest["attempt"] == number
    assert history.decoded(run.history)[0]["event"] == "accepted"
    assert sum(entry.get("entries", 1) for entry in history.decoded(run.history)) == number + 1


@pytest.mark.parametrize("at", [NOW, NOW + 0.0929, NOW + 0.093, NOW + 0.9999])
def test_the_time_of_an_entry_is_shown_like_that_of_the_run(at: float):
    [entry] = history.decoded(history.added((), "accepted", at))
    assert timestamp(entry["at"]) == timestamp(at)


def test_a_long_text_is_cut():
    run = history.record(a_run(), "deferred", NOW, reason="x" * 101)
    assert history.decoded(run.history)[-1]["reason"] == "x" * 99 + "…"


BAD = (
    b"",
    b"{",
    b"[]",
    b"[[",
    b"\xff",
    b'{"at":1}',
    b'{"event":"x"}',
    b'{"at":1e999,"event":"x"}',
    b'{"at":NaN,"event":"x"}',
    b'{"at":-1,"event":"x"}',
    b'{"at":"now","event":"x"}',
    b'{"at":1,"event":"x","omitted":[]}',
)


@pytest.mark.parametrize("bad", BAD)
def test_an_entry_that_cannot_be_decoded_costs_only_itself(bad: bytes):
    run = replace(a_run(), history=(*a_run().history, bad))
    run = history.record(run, "posted", NOW + 1, attempt=1)
    assert [entry["event"] for entry in history.decoded(run.history)][-1] == "posted"
    for attempt in range(2, 200):
        run = history.record(run, "posted", NOW + attempt, attempt=attempt)
    shown = history.decoded(run.history)
    assert (shown[-1]["attempt"], len(run.history)) == (199, history.MAX_ENTRIES)


def test_entries_of_some_events_are_left_out_whatever_a_text_says():
    entries = history.added((), "posted", NOW)
    entries = history.added(entries, "deferred", NOW, reason='"event":"posted"')

    assert [entry["event"] for entry in history.decoded(history.without(entries, ["posted"]))] == ["deferred"]
