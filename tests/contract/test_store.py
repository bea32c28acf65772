"""Contract of the store, for every adapter."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from bridge.adapters.store import SqlStore, group_commit, migrate_store
from bridge.adapters.store.queries import run_lists
from bridge.core.crew.responses import Refused, Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.model import Channel, DeliveryState
from bridge.core.delivery.outcome import Confirmed, Retryable, Undeliverable, outcome_of_attempt
from bridge.core.errors import ProcessExpired, RequestRefused, StoreUnavailable
from bridge.core.human_input import rules
from bridge.core.human_input.model import HumanInput, Question, QuestionContent, QuestionStage
from bridge.core.runs import state_machine
from bridge.core.runs.kickoff_memory import estimate_bytes
from bridge.core.runs.model import Decision, Deferral, Envelope, Outcome, RestoreFrom, Run, State, Task
from bridge.ports.inbound import Accepted
from bridge.ports.queries import RunFilter
from bridge.ports.runs import Conflict
from tests.contract.conftest import Adapter, LossyConnection, silence
from tests.contract.run_states import (
    CALLBACK,
    POLICY,
    accepted,
    claimed,
    counts,
    end_of,
    ids,
    in_doubt,
    refused,
    started,
)
from tests.fakes import NOW, a_delivery, a_run, applied, event_types, run_id, without_body

HOUR = 3600.0
AGAIN = Envelope("queue", redelivered=True)


class TestAccept:
    async def test_a_request_without_a_key_is_not_confused_with_one_in_the_same_batch(self, store: SqlStore):
        """In one commit with a repeated request, it was refused as a conflict and started nevertheless."""
        await store.accept(a_run(1, idempotency_key="k-1"))
        others = [a_run(2, idempotency_key="k-2"), a_run(3, idempotency_key="k-1"), a_run(4, inputs={"topic": "moss"})]
        _, again, alone = await asyncio.gather(*map(store.accept, others))
        assert (again.run.run_id, again.replayed) == (a_run(1).run_id, True)
        assert (alone.run.run_id, alone.replayed) == (a_run(4).run_id, False)

    async def test_a_new_run_is_stored_unchanged(self, store: SqlStore):
        envelope = Envelope("queue", reply_to="reply.a", correlation_id="c", traceparent="00-1-2-3")
        run = a_run(envelope=envelope, deadline=9.5, priority=3, callback_url="https://a.example", meta={"a": [1]})
        assert await store.accept(run) == Accepted(run, replayed=False)
        assert await store.load(run.run_id) == run

    async def test_an_unknown_run_is_none(self, store: SqlStore):
        assert await store.load(run_id(404)) is None

    async def test_the_same_key_returns_the_first_run(self, store: SqlStore):
        await accepted(store, 1, idempotency_key="k")
        again = await store.accept(a_run(2, idempotency_key="k", now=NOW + 99 * HOUR))
        assert (again.run.run_id, again.replayed) == (run_id(1), True)
        assert await store.load(run_id(2)) is None

    async def test_a_replay_returns_the_current_run(self, store: SqlStore):
        await started(store, 1, idempotency_key="k")
        again = await store.accept(a_run(2, idempotency_key="k"))
        assert (again.run.state, again.run.kickoff_id) == (State.RUNNING, "k-1")

    async def test_the_same_key_with_other_content_is_a_conflict(self, store: SqlStore):
        await accepted(store, 1, idempotency_key="k")
        with pytest.raises(RequestRefused) as caught:
            await store.accept(a_run(2, idempotency_key="k", inputs={"topic": "other"}))
        assert (caught.value.code, caught.value.field) == ("idempotency_conflict", "idempotency_key")
        assert await store.load(run_id(2)) is None

    async def test_keys_are_scoped_by_source_and_crew(self, store: SqlStore):
        runs = [
            a_run(1, idempotency_key="k"),
            a_run(2, idempotency_key="k", envelope=Envelope("other")),
            a_run(3, idempotency_key="k", crew="triage"),
        ]
        assert [(await store.accept(run)).replayed for run in runs] == [False, False, False]

    async def test_two_concurrent_requests_with_one_key_are_one_run(self, store: SqlStore):
        both = await asyncio.gather(*(store.accept(a_run(number, idempotency_key="k")) for number in (1, 2)))
        assert [one.run.run_id for one in both] == [run_id(1), run_id(1)]
        assert sorted(one.replayed for one in both) == [False, True]

    async def test_without_a_key_equal_requests_are_two_runs(self, store: SqlStore):
        await accepted(store, 1)
        assert not (await store.accept(a_run(2))).replayed

    async def test_a_redelivered_message_without_a_key_is_recognized_for_an_hour(self, store: SqlStore):
        await accepted(store, 1)
        again = await store.accept(a_run(2, envelope=AGAIN, now=NOW + HOUR))
        assert (again.run.run_id, again.replayed) == (run_id(1), True)

    @pytest.mark.parametrize(
        "other",
        [
            {"now": NOW + HOUR + 1},
            {"envelope": replace(AGAIN, source="other")},
            {"inputs": {"topic": "other"}},
            {"crew": "triage"},
            {"idempotency_key": "k"},
        ],
    )
    async def test_another_message_is_not_mistaken_for_a_redelivered_one(self, store: SqlStore, other: dict[str, Any]):
        await accepted(store, 1)
        assert not (await store.accept(a_run(2, **({"envelope": AGAIN} | other)))).replayed

    async def test_a_redelivered_message_does_not_match_a_run_with_a_key(self, store: SqlStore):
        await accepted(store, 1, idempotency_key="k")
        assert not (await store.accept(a_run(2, envelope=AGAIN))).replayed

    async def test_a_message_and_its_concurrent_redelivery_are_one_run(self, store: SqlStore):
        """The connection broke while the first copy waited for its commit; two runs would be two paid executions."""
        both = await asyncio.gather(store.accept(a_run(1)), store.accept(a_run(2, envelope=AGAIN)))
        assert {one.run.run_id for one in both} == {run_id(1)}

    async def test_two_hundred_concurrent_requests_have_one_response_each(self, store: SqlStore):
        runs = [a_run(number, idempotency_key=f"k-{number % 100}") for number in range(1, 201)]
        responses = await asyncio.gather(*(store.accept(run) for run in runs))
        assert sum(not response.replayed for response in responses) == 100
        assert all(
            a.run.request.idempotency_key == r.request.idempotency_key for a, r in zip(responses, runs, strict=True)
        )
        assert (await counts(store))["runs"] == {"accepted": 100}

    async def test_a_refused_request_does_not_affect_the_others_of_its_batch(self, store: SqlStore):
        await accepted(store, 1, idempotency_key="k")
        conflict = a_run(2, idempotency_key="k", inputs={})
        responses = await asyncio.gather(
            *(store.accept(run) for run in (a_run(3), conflict, a_run(4))), return_exceptions=True
        )
        assert [type(response) for response in responses] == [Accepted, RequestRefused, Accepted]

    async def test_a_row_that_the_database_rejects_does_not_affect_the_others(self, store: SqlStore):
        """The CHECKs are a last safeguard: a final run without an end would be a bug of the bridge."""
        broken = replace(a_run(2), state=State.FAILED)
        responses = await asyncio.gather(
            *(store.accept(run) for run in (a_run(1), broken, a_run(3))), return_exceptions=True
        )
        assert isinstance(responses[1], IntegrityError)
        assert (await counts(store))["runs"] == {"accepted": 2}

    async def test_a_cancelled_caller_does_not_affect_the_others(self, store: SqlStore):
        gone = asyncio.create_task(store.accept(a_run(1)))
        stays = asyncio.create_task(store.accept(a_run(2)))
        await asyncio.sleep(0)  # both writes are submitted
        gone.cancel()
        assert not (await stays).replayed
        assert await store.load(run_id(1)) is not None  # the write is committed

    async def test_more_than_one_batch_can_wait(self, store: SqlStore, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(group_commit, "MAX_BATCH", 3)
        await asyncio.gather(*(store.accept(a_run(number)) for number in range(1, 11)))
        assert (await counts(store))["runs"] == {"accepted": 10}


ODD_VALUES = [
    {"größe": "🦉 \u2028 \x00 \x7f", "": [], "nested": {"a": [{"b": None}]}},
    {"float": 0.1, "negative": -0.0, "small": 1e-300, "true": True},
    {"int64": 2**63 - 1, "uint64": 2**64 - 1},
    {"big": 2**70, "bigger": [-(10**40)]},
    {"text": "x" * 300_000},
]


class TestRoundTrips:
    @pytest.mark.parametrize("value", ODD_VALUES, ids=["unicode", "floats", "64 bit", "big", "long"])
    async def test_inputs_and_meta_are_read_back_unchanged(self, store: SqlStore, value: dict[str, Any]):
        """Strict JSON permits any integer, so the store must hold any."""
        await accepted(store, inputs=value, meta=value)
        run = await store.load(run_id(1))
        assert run is not None
        assert json.dumps(dict(run.request.inputs)) == json.dumps(value)
        assert json.dumps(run.request.meta) == json.dumps(value)

    @pytest.mark.parametrize("value", ODD_VALUES, ids=["unicode", "floats", "64 bit", "big", "long"])
    async def test_outcomes_are_read_back_unchanged(self, store: SqlStore, value: dict[str, Any]):
        """A crew may return any JSON; a store that fails on it would stop the bridge."""
        run = await started(store)
        outcome = Outcome("🦉 \x00", value, value)
        tasks = (Task("Wärme 🦉", None, value, NOW + 0.5), Task(None, "A", "text"))
        run = replace(run, progress=value, tasks=tasks, outcome=outcome, polls=3, started_at=NOW + 0.123456)
        assert await store.apply(Decision(run)) == replace(run, version=run.version + 1)
        assert await store.load(run.run_id) == replace(run, version=run.version + 1)

    async def test_what_to_restore_is_read_back_unchanged(self, store: SqlStore):
        named = RestoreFrom(kickoff_id="k-0", state_id="k-0")
        await accepted(store, restore_from=named)
        run = await store.load(run_id(1))
        assert run is not None
        assert run.request.restore_from == named

    async def test_human_input_is_read_back_unchanged(self, store: SqlStore):
        run = await started(store)
        content = QuestionContent("t-1", "Wärme?", "Please review.", ("a", "b"), "https://amp.example.com/?token=x")
        question = Question(2, NOW, NOW + 9, content, QuestionStage.UNCONFIRMED, "a", True, NOW + 1, "HTTP 422")
        deferral = Deferral("internal error", 1.5, 6.5, 2)
        human_input = HumanInput(question, ("t-0", "t-1"), ((None, "c"), ("k", "d")), ("alias",), 9.5)
        written = await applied(store, Decision(replace(run, human_input=human_input, deferral=deferral)))
        assert await store.load(run.run_id) == written
        assert (written.human_input, written.deferral) == (human_input, deferral)

    async def test_event_bytes_and_headers_are_read_back_unchanged(self, store: SqlStore):
        headers: dict[str, str | int | float | bool] = {
            "x-bridge-reason": "größe 🦉",
            "n": 2**63 - 1,
            "yes": True,
            "f": 1.0,
        }
        body = bytes(range(256)) + "🦉".encode()
        sent = a_delivery(channel=Channel.QUEUE, body=body, headers=headers, content_type="text/plain; charset=x")
        await store.deliveries.add([sent])
        assert await store.deliveries.claim([Channel.QUEUE], 9, NOW) == [sent]


class TestRecoveringRuns:
    async def test_recovered_runs_are_loaded_without_their_inputs_and_keep_them(self, store: SqlStore):
        """After a restart all running runs are recovered, and their inputs may be a mebibyte each."""
        run = await started(store, 1, inputs={"topic": "a" * 1000}, meta={"order": 1})
        await store.cluster.release_runs([run.run_id])
        [taken] = await store.claim({State.RUNNING}, {"research"}, 9)
        assert (taken.request.inputs, taken.request.meta, taken.kickoff_id) == ({}, {}, "k-1")
        await applied(store, end_of(taken))
        ended = await store.load(run.run_id)
        assert ended is not None
        assert (ended.request, ended.state) == (run.request, State.FAILED)


class TestClaimingRuns:
    async def test_the_highest_priority_comes_first_then_the_oldest(self, store: SqlStore):
        for number, priority in ((1, 0), (2, 5), (3, 0), (4, 9), (5, 5)):
            await accepted(store, number, priority=priority)
        first = await store.claim_accepted("research", 3, 99, NOW)
        then = await store.claim_accepted("research", 9, 99, NOW)
        assert (ids(first), ids(then)) == ([run_id(4), run_id(2), run_id(5)], [run_id(1), run_id(3)])

    async def test_a_claim_owns_the_run_counts_the_attempt_and_marks_it_as_starting(self, store: SqlStore):
        before = await accepted(store)
        [run] = await store.claim_accepted("research", 9, 9, NOW + 5)
        begun = state_machine.begin(replace(before, owner="me"), NOW + 5)
        assert run == replace(begun, version=before.version + 1)
        assert await store.load(run.run_id) == run

    async def test_a_claim_is_one_transaction(self, lossy: SqlStore, connection: LossyConnection):
        """Between a claim and a mark in two transactions, a kill left runs that were neither waiting nor started."""
        await asyncio.gather(*(accepted(lossy, number) for number in range(1, 6)))
        before = connection.commits
        assert [run.state for run in await lossy.claim_accepted("research", 9, 9, NOW)] == [State.STARTING] * 5
        assert connection.commits == before + 1

    async def test_only_due_runs_of_the_crew_without_an_owner_are_claimed(self, store: SqlStore):
        await accepted(store, 1, crew="triage")
        await accepted(store, 2, now=NOW + 10)
        await accepted(store, 3)
        assert ids(await store.claim_accepted("research", 9, 9, NOW + 9)) == [run_id(3)]
        assert await store.claim_accepted("research", 9, 9, NOW + 9) == []
        assert ids(await store.claim_accepted("research", 9, 9, NOW + 10)) == [run_id(2)]

    async def test_no_more_are_claimed_than_fit_into_memory_but_one(self, store: SqlStore):
        for number in (1, 2, 3, 4):
            await accepted(store, number, inputs={"topic": "x" * 10_000}, meta={"note": "x" * 1_000})
        one = estimate_bytes(a_run(5, inputs={"topic": "x" * 10_000}, meta={"note": "x" * 1_000}))
        first = await store.claim_accepted("research", 9, 9, NOW, max_bytes=2 * one)
        then = await store.claim_accepted("research", 9, 9, NOW, max_bytes=one - 1)
        last = await store.claim_accepted("research", 9, 2, NOW, max_bytes=one)
        assert (ids(first), ids(then), last) == ([run_id(1), run_id(2)], [run_id(3)], [])

    async def test_no_more_are_claimed_than_the_limit(self, store: SqlStore):
        for number in range(1, 6):
            await accepted(store, number)
        assert len(await store.claim_accepted("research", 2, 99, NOW)) == 2
        assert len(await store.claim_accepted("research", 99, 4, NOW)) == 2
        assert await store.claim_accepted("research", 99, 4, NOW) == []

    async def test_a_claim_that_finds_too_few_slots_is_remembered(self, store: SqlStore):
        """So that the end of a run starts the next one at once; with other processes, which may wait for it, always."""
        for number in range(1, 4):
            await accepted(store, number)
        short = []
        for limit in (2, 2, 1):
            await store.claim_accepted("research", limit, 3, NOW)
            short.append(store.short_of_slots("research"))
        assert short in ([False, True, True], [True, True, True])

    async def test_starting_running_and_waiting_runs_occupy_a_slot(self, store: SqlStore):
        await claimed(store, 1)
        running = await started(store, 2)
        await applied(store, Decision(replace(running, state=State.WAITING_FOR_HUMAN)))
        await started(store, 3)
        await claimed(store, 4)
        await accepted(store, 5)
        assert await store.claim_accepted("research", 9, 4, NOW) == []
        assert ids(await store.claim_accepted("research", 9, 5, NOW)) == [run_id(5)]

    async def test_a_run_in_doubt_occupies_its_slot_until_that_is_reported(self, store: SqlStore):
        """Evidence that arrives late, before the report, finds the slot still occupied."""
        overdue = await in_doubt(store, 1)
        await accepted(store, 2)
        assert overdue.due_at is not None
        assert await store.claim_accepted("research", 9, 1, overdue.due_at + 1) == []
        evidence = state_machine.on_evidence(overdue, "k-1", POLICY, overdue.due_at + 1)
        assert evidence is not None
        await applied(store, evidence)
        assert await store.claim_accepted("research", 9, 1, overdue.due_at + 2) == []
        assert ids(await store.claim_accepted("research", 9, 2, overdue.due_at + 2)) == [run_id(2)]

    async def test_a_run_held_in_doubt_occupies_no_slot(self, store: SqlStore):
        await in_doubt(store, 1)
        [run] = await store.claim({State.IN_DOUBT}, {"research"}, 9, NOW + HOUR)
        await applied(store, state_machine.on_evidence_overdue(run, POLICY, NOW + HOUR))
        await accepted(store, 2)
        assert len(await store.claim_accepted("research", 9, 1, NOW + HOUR)) == 1
        assert await store.claim({State.IN_DOUBT}, {"research"}, 9, NOW + 99 * HOUR) == []

    async def test_an_ended_run_frees_its_slot(self, store: SqlStore):
        await refused(store, 1)
        await accepted(store, 2)
        assert len(await store.claim_accepted("research", 9, 1, NOW)) == 1

    async def test_slots_are_counted_by_crew(self, store: SqlStore):
        await started(store, 1)
        await accepted(store, 2, crew="triage")
        assert len(await store.claim_accepted("triage", 9, 1, NOW)) == 1

    async def test_concurrent_claims_never_share_a_row_or_a_slot(self, adapter: Adapter, store: SqlStore):
        other = await adapter.twin(store, "other")
        await asyncio.gather(*(accepted(store, number) for number in range(1, 41)))
        rounds = await asyncio.gather(
            *(one.claim_accepted("research", 3, 30, NOW) for one in (store, other) for _ in range(10))
        )
        taken = [run.run_id for part in rounds for run in part]
        assert len(taken) == len(set(taken)) == 30

    async def test_claims_by_state_take_runs_without_an_owner(self, adapter: Adapter, store: SqlStore):
        run = await started(store)
        assert await store.claim({State.RUNNING}, {"research"}, 9) == []
        other = await adapter.twin(store, "other")
        silence(adapter, "me", 20)
        await other.cluster.expire_processes(NOW, 12)
        [taken] = await other.claim({State.RUNNING}, {"research"}, 9)
        assert (taken.run_id, taken.owner) == (run.run_id, "other")
        assert await other.claim({State.RUNNING}, {"research"}, 9) == []

    async def test_claims_by_state_can_be_limited_to_due_runs(self, store: SqlStore):
        overdue = await in_doubt(store)
        assert overdue.due_at is not None
        assert await store.claim({State.IN_DOUBT}, {"research"}, 9, overdue.due_at - 1) == []
        assert ids(await store.claim({State.IN_DOUBT}, {"research"}, 9, overdue.due_at)) == [run_id(1)]

    async def test_claims_by_state_can_be_limited_to_one_crew(self, store: SqlStore):
        await in_doubt(store)
        assert await store.claim({State.IN_DOUBT}, {"triage"}, 9, NOW + HOUR) == []
        assert ids(await store.claim({State.IN_DOUBT}, {"research"}, 9, NOW + HOUR)) == [run_id(1)]

    async def test_claims_by_state_without_a_time_skip_runs_with_a_due_time(self, store: SqlStore):
        """A waiting run with an answer to submit belongs to the step that submits it, not to the one that polls."""
        run = await started(store)
        decision = rules.on_question(run, QuestionContent("t-1"), POLICY, NOW)
        assert decision is not None
        waiting = await applied(store, replace(decision, run=replace(decision.run, owner=None, due_at=NOW + 5)))
        assert await store.claim({State.WAITING_FOR_HUMAN}, {"research"}, 9) == []
        assert ids(await store.claim({State.WAITING_FOR_HUMAN}, {"research"}, 9, NOW + 5)) == [waiting.run_id]


class TestLookup:
    async def test_a_run_is_found_by_its_execution(self, store: SqlStore):
        run = await started(store)
        assert run.kickoff_id is not None
        assert await store.find_execution("research", run.kickoff_id) == run
        assert await store.find_execution("another", run.kickoff_id) is None
        assert await store.find_execution("research", "nobody") is None

    async def test_a_run_is_found_by_the_key_of_its_request(self, store: SqlStore):
        run = (await store.accept(a_run(idempotency_key="order-1"))).run
        assert await store.find_key("queue", "research", "order-1") == run
        for other in (("client/shop", "research", "order-1"), ("queue", "x", "order-1"), ("queue", "research", "x")):
            assert await store.find_key(*other) is None


class TestApply:
    async def test_a_decision_is_written_and_increments_the_version(self, store: SqlStore):
        run = await claimed(store)
        written = await applied(store, state_machine.on_kickoff(run, Started("k-1"), POLICY, NOW + 5))
        assert (written.state, written.kickoff_id, written.version) == (State.RUNNING, "k-1", run.version + 1)
        assert await store.load(run.run_id) == written

    async def test_a_decision_on_an_old_version_is_stale_and_changes_nothing(self, store: SqlStore):
        run = await started(store)
        newer = await applied(store, Decision(replace(run, polls=1)))
        assert await store.apply(end_of(run)) is Conflict.STALE
        assert await store.load(run.run_id) == newer
        assert await store.queries.deliveries_for_run(run.run_id) == []

    async def test_two_concurrent_ends_are_one_end_and_one_stale_decision(self, store: SqlStore):
        run = await started(store)
        first, second = await asyncio.gather(*(store.apply(end_of(run)) for _ in range(2)))
        assert isinstance(first, Run)
        assert second is Conflict.STALE
        assert event_types(await store.queries.deliveries_for_run(run.run_id)) == ["run.failed"]

    async def test_a_decision_about_an_unknown_run_is_stale(self, store: SqlStore):
        assert await store.apply(Decision(a_run())) is Conflict.STALE

    async def test_an_end_and_its_deliveries_are_written_together(self, store: SqlStore):
        run = await refused(store, policy=CALLBACK)
        assert (run.state, run.owner, run.finished_at) == (State.FAILED, None, NOW)
        found = await store.queries.deliveries_for_run(run.run_id)
        assert [delivery.destination.channel for delivery in found] == [Channel.EXCHANGE, Channel.CALLBACK]
        assert found[0].event == found[1].event

    async def test_an_end_whose_deliveries_cannot_be_written_is_not_written(self, store: SqlStore):
        run = await started(store)
        taken = end_of(run).deliveries[0]
        await store.deliveries.add([replace(taken, event=replace(taken.event, run_id=None))])
        with pytest.raises(IntegrityError):
            await applied(store, end_of(run))
        assert await store.load(run.run_id) == run

    async def test_a_final_run_without_an_end_is_rejected_by_the_database(self, store: SqlStore):
        run = await started(store)
        with pytest.raises(IntegrityError):
            await applied(store, Decision(replace(run, state=State.SUCCEEDED)))

    async def test_an_execution_belongs_to_one_run_of_its_crew(self, store: SqlStore):
        first = await started(store, 1)
        second = await claimed(store, 2)
        decision = state_machine.on_kickoff(second, Started("k-1"), POLICY, NOW)
        assert await store.apply(decision) is Conflict.EXECUTION_TAKEN
        assert [await store.load(run.run_id) for run in (first, second)] == [first, second]

    async def test_of_two_runs_that_claim_one_execution_concurrently_one_has_it(self, store: SqlStore):
        begun = [await claimed(store, number) for number in (1, 2)]
        decisions = [state_machine.on_kickoff(run, Started("k-1"), POLICY, NOW) for run in begun]
        first, second = await asyncio.gather(*map(store.apply, decisions))
        assert isinstance(first, Run)
        assert second is Conflict.EXECUTION_TAKEN

    async def test_execution_ids_are_scoped_by_crew(self, store: SqlStore):
        await started(store, 1)
        await store.accept(a_run(2, crew="triage"))
        [other] = await store.claim_accepted("triage", 1, 1, NOW)
        assert (await applied(store, state_machine.on_kickoff(other, Started("k-1"), POLICY, NOW))).kickoff_id == "k-1"

    async def test_of_two_processes_that_claim_one_execution_concurrently_one_has_it(
        self, adapter: Adapter, store: SqlStore
    ):
        both = [store, await adapter.twin(store, "other")]
        begun = [await claimed(one, number) for number, one in enumerate(both, 1)]
        decisions = [state_machine.on_kickoff(run, Started("k-1"), POLICY, NOW) for run in begun]
        writes = (one.apply(decision) for one, decision in zip(both, decisions, strict=True))
        written = await asyncio.gather(*writes)
        assert [one for one in written if not isinstance(one, Run)] == [Conflict.EXECUTION_TAKEN]

    async def test_a_stale_decision_does_not_affect_the_others_of_its_batch(self, store: SqlStore):
        runs = [await started(store, number) for number in range(1, 10)]
        await applied(store, end_of(runs[4]))
        written = await asyncio.gather(*(store.apply(end_of(run)) for run in runs))
        assert written[4] is Conflict.STALE
        assert all(isinstance(one, Run) for one in written[:4] + written[5:])
        assert await counts(store) == {"runs": {"failed": 9}, "deliveries": {"pending": 9}}

    async def test_hundreds_of_concurrent_decisions_are_all_written(self, store: SqlStore):
        await asyncio.gather(*(accepted(store, number) for number in range(1, 201)))
        runs = await store.claim_accepted("research", 200, 200, NOW)
        ends = (state_machine.on_kickoff(run, Refused("no"), POLICY, NOW) for run in runs)
        await asyncio.gather(*(applied(store, end) for end in ends))
        assert await counts(store) == {"runs": {"failed": 200}, "deliveries": {"pending": 200}}


class TestDeliveries:
    async def test_deliveries_are_claimed_by_channel(self, store: SqlStore):
        for number, channel in enumerate(Channel):
            await store.deliveries.add([a_delivery(number, channel)])
        found = await store.deliveries.claim([Channel.QUEUE, Channel.EXCHANGE], 9, NOW)
        assert {delivery.destination.channel for delivery in found} == {Channel.QUEUE, Channel.EXCHANGE}

    async def test_the_longest_due_comes_first(self, store: SqlStore):
        dues = {number: NOW - age for number, age in enumerate([5, 50, 1, 99, 20])}
        for number, due in dues.items():
            await store.deliveries.add([a_delivery(number, due_at=due)])
        found = await store.deliveries.claim([Channel.CALLBACK], 3, NOW)
        assert [delivery.due_at for delivery in found] == sorted(dues.values())[:3]

    async def test_only_due_and_free_deliveries_are_claimed(self, store: SqlStore):
        await store.deliveries.add([a_delivery(1, due_at=NOW + 5), a_delivery(2)])
        assert len(await store.deliveries.claim([Channel.CALLBACK], 9, NOW + 4)) == 1
        assert await store.deliveries.claim([Channel.CALLBACK], 9, NOW + 4) == []
        assert len(await store.deliveries.claim([Channel.CALLBACK], 9, NOW + 5)) == 1

    async def test_a_failed_delivery_is_released_for_later(self, store: SqlStore):
        await store.deliveries.add([a_delivery()])
        [delivery] = await store.deliveries.claim([Channel.CALLBACK], 9, NOW)
        written = outcome_of_attempt(delivery, Retryable("HTTP 500", after=60.0), NOW)
        await store.deliveries.record_outcome(written)
        assert await store.deliveries.claim([Channel.CALLBACK], 9, NOW + 59) == []
        assert await store.deliveries.claim([Channel.CALLBACK], 9, NOW + 60) == [written.delivery]

    @pytest.mark.parametrize("response", [Confirmed(), Undeliverable("HTTP 410")])
    async def test_a_delivered_or_dead_delivery_is_kept_and_not_claimed_again(self, store: SqlStore, response: Any):
        run = await refused(store)
        [delivery] = await store.deliveries.claim([Channel.EXCHANGE], 9, NOW)
        written = outcome_of_attempt(delivery, response, NOW)
        await store.deliveries.record_outcome(written)
        assert await store.deliveries.claim(list(Channel), 9, NOW + 99 * HOUR) == []
        assert await store.queries.deliveries_for_run(run.run_id) == [without_body(written.delivery)]

    async def test_concurrent_claims_never_share_a_delivery(self, adapter: Adapter, store: SqlStore):
        other = await adapter.twin(store, "other")
        await store.deliveries.add([a_delivery(number) for number in range(30)])
        rounds = await asyncio.gather(
            *(one.deliveries.claim([Channel.CALLBACK], 4, NOW) for one in (store, other) for _ in range(5))
        )
        taken = [delivery.delivery_id for part in rounds for delivery in part]
        assert len(taken) == len(set(taken)) == 30

    async def test_a_late_failure_does_not_reopen_a_delivery_that_another_process_completed(
        self, adapter: Adapter, store: SqlStore
    ):
        """Every write is guarded; the process had expired during its attempt."""
        await store.deliveries.add([a_delivery()])
        [slow] = await store.deliveries.claim([Channel.CALLBACK], 9, NOW)
        other = await adapter.twin(store, "other")
        silence(adapter, "me", 20)
        await other.cluster.expire_processes(NOW, 12)
        [again] = await other.deliveries.claim([Channel.CALLBACK], 9, NOW)
        await other.deliveries.record_outcome(outcome_of_attempt(again, Confirmed(), NOW))
        await store.deliveries.record_outcome(outcome_of_attempt(slow, Retryable("timeout"), NOW))
        assert (await counts(store))["deliveries"] == {"delivered": 1}


class TestListing:
    async def test_runs_are_listed_newest_first_page_by_page(self, store: SqlStore):
        for number in range(1, 6):
            await accepted(store, number)
        page = await store.queries.find_runs(RunFilter(limit=2))
        rest = await store.queries.find_runs(RunFilter(before=page.items[-1].run_id))
        assert (page.more, rest.more) == (True, False)
        assert (ids(page.items), ids(rest.items)) == ([run_id(5), run_id(4)], [run_id(3), run_id(2), run_id(1)])

    async def test_every_filter_applies(self, store: SqlStore):
        await started(store, 1)
        await accepted(store, 2, crew="triage")
        await accepted(store, 3, envelope=Envelope("shop"))
        rows = [
            (RunFilter(state=State.RUNNING), [1]),
            (RunFilter(crew="triage"), [2]),
            (RunFilter(crews=frozenset({"triage", "none"})), [2]),
            (RunFilter(crews=frozenset()), []),
            (RunFilter(source="shop"), [3]),
            (RunFilter(crew="research", source="queue"), [1]),
        ]
        for which, numbers in rows:
            assert ids((await store.queries.find_runs(which)).items) == [run_id(number) for number in numbers]

    async def test_neither_inputs_nor_large_results_are_read_for_a_list(self, adapter: Adapter, store: SqlStore):
        """A page of them would be gigabytes."""
        for number, (size, of_json) in enumerate(
            [(run_lists.MAX_LISTED_RESULT, 0), (run_lists.MAX_LISTED_RESULT, 1), (0, 5)], start=1
        ):
            await accepted(store, number)
            columns = b"x" * size or None, b"1" * of_json or None
            adapter.execute("UPDATE runs SET result = %s, result_json = %s WHERE run_id = %s", *columns, run_id(number))
        found = (await store.queries.find_runs(RunFilter())).items
        sizes = [(len(run.outcome.result or ""), run.outcome.result_json) for run in found]
        assert sizes == [(0, 11111), (0, None), (run_lists.MAX_LISTED_RESULT, None)]
        assert [run.request.inputs for run in found] == [{}, {}, {}]
        assert [run.history for run in found] == [(), (), ()]

    async def test_an_empty_store_counts_nothing(self, store: SqlStore):
        assert await counts(store) == {"runs": {}, "deliveries": {}}


class TestOwnership:
    async def test_a_silent_process_loses_its_rows_and_their_versions_increase(self, adapter: Adapter, store: SqlStore):
        run = await started(store)
        await store.deliveries.add([a_delivery()])
        await store.deliveries.claim([Channel.CALLBACK], 9, NOW)
        other = await adapter.twin(store, "other")
        silence(adapter, "me", 20)
        assert await other.cluster.expire_processes(NOW, 12) == 1
        freed = await store.load(run.run_id)
        assert freed == replace(run, owner=None, version=run.version + 1)
        assert len(await other.deliveries.claim([Channel.CALLBACK], 9, NOW)) == 1
        assert await store.apply(end_of(run)) is Conflict.STALE
        assert await other.cluster.expire_processes(NOW, 12) == 0

    async def test_a_process_that_sends_heartbeats_does_not_expire(self, adapter: Adapter, store: SqlStore):
        other = await adapter.twin(store, "other")
        silence(adapter, "me", 20)
        await store.cluster.heartbeat(NOW)
        assert await other.cluster.expire_processes(NOW, 12) == 0
        silence(adapter, "me", 20)
        assert await other.cluster.expire_processes(NOW, 12) == 1

    async def test_an_expired_process_is_notified(self, adapter: Adapter, store: SqlStore):
        other = await adapter.twin(store, "other")
        silence(adapter, "me", 20)
        await other.cluster.expire_processes(NOW, 12)
        with pytest.raises(ProcessExpired):
            await store.cluster.heartbeat(NOW)

    async def test_nothing_is_claimed_in_the_name_of_an_expired_process(self, adapter: Adapter, store: SqlStore):
        """Its rows would belong to a process that can never expire."""
        await accepted(store, 1)
        await applied(store, replace(end_of(await started(store, 2)), deliveries=(a_delivery(),)))
        other = await adapter.twin(store, "other")
        silence(adapter, "me", 20)
        await other.cluster.expire_processes(NOW, 12)
        assert await store.claim_accepted("research", 9, 9, NOW) == []
        assert await store.claim({State.ACCEPTED}, {"research"}, 9) == []
        assert await store.deliveries.claim([Channel.CALLBACK], 9, NOW) == []
        assert len(await other.claim_accepted("research", 9, 9, NOW)) == 1

    async def test_closing_releases_everything(self, adapter: Adapter):
        async with adapter.open() as store:
            run = await started(store, 1)
            await claimed(store, 2)
            await store.deliveries.add([a_delivery()])
            await store.deliveries.claim([Channel.CALLBACK], 9, NOW)
        assert adapter.execute("SELECT count(*) FROM processes") == [(0,)]
        async with adapter.open("next") as store:
            assert ids(await store.claim({State.RUNNING}, {"research"}, 9)) == [run.run_id]
            assert ids(await store.claim({State.STARTING}, {"research"}, 9)) == [run_id(2)]
            assert len(await store.deliveries.claim([Channel.CALLBACK], 9, NOW)) == 1

    async def test_writes_submitted_before_closing_are_committed(self, adapter: Adapter):
        async with adapter.open() as store:
            handed_in = [asyncio.ensure_future(store.accept(a_run(number))) for number in range(1, 51)]
            await asyncio.sleep(0)
        assert len(await asyncio.gather(*handed_in)) == 50
        assert adapter.execute("SELECT count(*) FROM runs") == [(50,)]


class TestRetention:
    async def test_old_ended_runs_are_deleted_with_their_events_and_deliveries(self, adapter: Adapter, store: SqlStore):
        await refused(store, 1, CrewPolicy(), at=NOW)
        await refused(store, 2, at=NOW)
        [delivery] = await store.deliveries.claim([Channel.EXCHANGE], 9, NOW)
        await store.deliveries.record_outcome(outcome_of_attempt(delivery, Confirmed(), NOW))
        assert await store.cluster.delete_ended_runs(NOW, 9) == 0
        assert await store.cluster.delete_ended_runs(NOW + 1, 9) == 2
        for table in ("runs", "events", "deliveries"):
            assert adapter.execute(f"SELECT count(*) FROM {table}") == [(0,)]

    async def test_many_old_runs_are_deleted_in_batches_oldest_first(self, store: SqlStore):
        """Half a million in one transaction exceeded PostgreSQL's time limit: each attempt was rolled back."""
        for number, age in enumerate((1, 3, 2), start=1):
            await refused(store, number, CrewPolicy(), at=NOW - age)
        assert await store.cluster.delete_ended_runs(NOW, 2) == 2
        assert ids((await store.queries.find_runs(RunFilter())).items) == [run_id(1)]
        assert await store.cluster.delete_ended_runs(NOW, 2) == 1
        assert await store.cluster.delete_ended_runs(NOW, 2) == 0

    async def test_many_events_without_a_run_are_deleted_in_batches(self, adapter: Adapter, store: SqlStore):
        await store.deliveries.add([a_delivery(number) for number in range(1, 4)])
        for delivery in await store.deliveries.claim([Channel.CALLBACK], 9, NOW):
            await store.deliveries.record_outcome(outcome_of_attempt(delivery, Confirmed(), NOW))
        left = []
        for _ in range(2):
            await store.cluster.delete_ended_runs(NOW + 1, 2)
            left += adapter.execute("SELECT count(*) FROM events")
        assert left == [(1,), (0,)]

    async def test_runs_with_pending_deliveries_are_kept(self, store: SqlStore):
        run = await refused(store, policy=CALLBACK)
        [first, _] = await store.deliveries.claim(list(Channel), 9, NOW)
        await store.deliveries.record_outcome(outcome_of_attempt(first, Confirmed(), NOW))
        assert await store.cluster.delete_ended_runs(NOW + 99 * HOUR, 9) == 0
        assert len(await store.queries.deliveries_for_run(run.run_id)) == 2

    async def test_open_runs_are_kept_at_any_age(self, store: SqlStore):
        await accepted(store, 1)
        await in_doubt(store, 2)
        await started(store, 3)
        assert await store.cluster.delete_ended_runs(NOW + 10_000 * HOUR, 9) == 0

    async def test_old_deliveries_without_a_run_are_deleted_when_they_are_done(self, store: SqlStore):
        await store.deliveries.add([a_delivery(1), a_delivery(2)])
        [one, _] = await store.deliveries.claim([Channel.CALLBACK], 9, NOW)
        await store.deliveries.record_outcome(outcome_of_attempt(one, Undeliverable("410"), NOW))
        await store.cluster.delete_ended_runs(NOW + 1, 9)
        assert (await counts(store))["deliveries"] == {DeliveryState.PENDING.value: 1}

    async def test_the_key_of_a_deleted_run_may_be_used_again(self, store: SqlStore):
        run = await claimed(store, 1, idempotency_key="k")
        await applied(store, state_machine.on_kickoff(run, Refused("no"), CrewPolicy(), NOW))
        await store.cluster.delete_ended_runs(NOW + 1, 9)
        assert not (await store.accept(a_run(2, idempotency_key="k"))).replayed


class TestReopening:
    async def test_everything_survives(self, adapter: Adapter):
        async with adapter.open() as store:
            await refused(store, 1, CALLBACK)
            await accepted(store, 2, idempotency_key="k")
            before = await store.queries.find_runs(RunFilter()), await store.queries.deliveries_for_run(run_id(1))
        async with adapter.open("next") as store:
            assert (
                await store.queries.find_runs(RunFilter()),
                await store.queries.deliveries_for_run(run_id(1)),
            ) == before
            assert (await store.accept(a_run(3, idempotency_key="k"))).replayed

    async def test_after_closing_another_process_may_open_the_store(self, adapter: Adapter):
        for name in ("one", "two"):
            async with adapter.open(name):
                pass

    async def test_without_migration_an_empty_store_cannot_be_used(self, adapter: Adapter):
        adapter.empty()
        with pytest.raises(StoreUnavailable, match="migrate"):
            async with adapter.open(migrate=False):
                pass
        await migrate_store(adapter.url)
        async with adapter.open(migrate=False) as store:
            assert (await counts(store))["runs"] == {}

    async def test_migrating_twice_changes_nothing(self, adapter: Adapter):
        assert await migrate_store(adapter.url) == await migrate_store(adapter.url)


class TestDatabase:
    async def test_an_unavailable_store_is_reported_without_its_content(self, adapter: Adapter, store: SqlStore):
        """The reason is logged, and callback URLs often contain a secret."""
        secret = a_run(inputs={"password": "hunter2"}, callback_url="https://hooks.example/hunter2")
        async with adapter.unavailable():
            for call in (store.accept(secret), store.load(run_id(1)), store.queries.figures({}, NOW)):
                with pytest.raises(StoreUnavailable) as caught:
                    await call
                assert "hunter2" not in str(caught.value)
                assert "INSERT" not in str(caught.value)

    async def test_pending_writes_are_written_as_soon_as_the_store_is_available(
        self, adapter: Adapter, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.02)
        run = await claimed(store)
        async with adapter.unavailable():
            writing = asyncio.create_task(applied(store, state_machine.on_kickoff(run, Started("k-1"), POLICY, NOW)))
            await asyncio.wait([writing], timeout=0.03)
            assert not writing.done()
        assert (await writing).state is State.RUNNING


class TestSignatureDigests:
    """A signed request is one request, whatever sends it again and whatever surrounds the signed part."""

    WITH_DIGEST = Envelope("hook/shop", signature_digest="s" * 64)

    async def test_the_same_digest_is_the_same_run_without_a_key(self, store: SqlStore):
        first = await store.accept(a_run(1, envelope=self.WITH_DIGEST))
        again = await store.accept(a_run(2, envelope=self.WITH_DIGEST, now=NOW + 99 * HOUR))
        assert (first.replayed, again.replayed, again.run.run_id) == (False, True, run_id(1))
        assert again.run.envelope == self.WITH_DIGEST

    async def test_a_replay_under_another_key_starts_nothing(self, store: SqlStore):
        await accepted(store, 1, envelope=self.WITH_DIGEST, idempotency_key="d-1")
        again = await store.accept(a_run(2, envelope=self.WITH_DIGEST, idempotency_key="d-2"))
        assert (again.replayed, ids((await store.queries.find_runs(RunFilter())).items)) == (True, [run_id(1)])

    async def test_a_replay_with_other_content_is_refused(self, store: SqlStore):
        await accepted(store, 1, envelope=self.WITH_DIGEST)
        with pytest.raises(RequestRefused) as caught:
            await store.accept(a_run(2, envelope=self.WITH_DIGEST, inputs={"topic": "other"}))
        assert caught.value.code == "idempotency_conflict"
        assert ids((await store.queries.find_runs(RunFilter())).items) == [run_id(1)]

    async def test_another_attempt_with_the_same_key_is_the_same_run(self, store: SqlStore):
        await accepted(store, 1, envelope=self.WITH_DIGEST, idempotency_key="d-1")
        retry = replace(self.WITH_DIGEST, signature_digest="t" * 64)
        assert (await store.accept(a_run(2, envelope=retry, idempotency_key="d-1"))).run.run_id == run_id(1)

    async def test_digests_are_scoped_by_hook(self, store: SqlStore):
        await accepted(store, 1, envelope=self.WITH_DIGEST)
        other = await store.accept(a_run(2, envelope=replace(self.WITH_DIGEST, source="hook/other")))
        assert not other.replayed

    async def test_two_concurrent_copies_are_one_run(self, store: SqlStore):
        both = await asyncio.gather(*(store.accept(a_run(number, envelope=self.WITH_DIGEST)) for number in (1, 2)))
        assert sorted(response.replayed for response in both) == [False, True]
        assert len({response.run.run_id for response in both}) == 1
