"""Hypothesis state machine for idempotency keys: the real statements on SQLite against a dictionary."""

from dataclasses import dataclass, replace
from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Engine, create_engine, delete, func, select

from bridge.adapters.store.queries.accept import REMEMBER_UNKEYED, accept_all
from bridge.adapters.store.schema import metadata, runs
from bridge.core.errors import RequestRefused
from bridge.core.runs import state_machine
from bridge.core.runs.model import Envelope, Run
from bridge.ports.inbound import Accepted
from tests.fakes import NOW, a_request, run_id


@dataclass(frozen=True, slots=True)
class Sent:
    """What distinguishes one request from another."""

    source: str
    crew: str
    key: str | None
    content: str
    redelivered: bool
    signature_digest: str | None


sent = st.builds(
    Sent,
    st.sampled_from(["queue", "orders"]),
    st.sampled_from(["research", "triage"]),
    st.sampled_from([None, "k-1", "k-2"]),
    st.sampled_from(["peat", "moss"]),
    st.booleans(),
    st.sampled_from([None, None, None, "s-1"]),
)


@cache
def _one_store() -> Engine:
    """Created once, emptied for each history."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    return engine


class KeyMachine(RuleBasedStateMachine):
    """Requests alone, and many without signature digests in one commit.

    The model knows the run of each key and digest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.engine = _one_store()
        self.now = NOW
        self.made = 0
        self.kept: dict[str, Run] = {}
        self.named: dict[tuple[str | None, ...], Run] = {}
        with self.engine.begin() as connection:
            connection.execute(delete(runs))

    @rule(seconds=st.sampled_from([1.0, REMEMBER_UNKEYED / 2, REMEMBER_UNKEYED * 2]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(requests=st.lists(sent, min_size=1, max_size=6))
    def accept(self, requests: list[Sent]) -> None:
        """I1: an accepted request is stored. I13: one key, one run; other content is an error."""
        alone = len(requests) == 1
        new = [self.a_run(one if alone else replace(one, signature_digest=None)) for one in requests]
        with self.engine.begin() as connection:
            responses = accept_all(connection, new)
        in_turn = sorted(range(len(new)), key=lambda position: self.may_be_a_copy(new[position]))
        for position in in_turn:
            self.compare(new[position], responses[position])

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def a_request_is_repeated(self, data: st.DataObject) -> None:
        """I13: as after a lost response or ack."""
        first = data.draw(st.sampled_from(sorted(self.kept.values(), key=lambda run: run.run_id)))
        self.made += 1
        again = replace(first, run_id=run_id(self.made), accepted_at=self.now)
        with self.engine.begin() as connection:
            [response] = accept_all(connection, [again])
        self.compare(again, response)

    def a_run(self, one: Sent) -> Run:
        self.made += 1
        request = a_request(one.crew, inputs={"topic": one.content}, idempotency_key=one.key)
        envelope = Envelope(one.source, redelivered=one.redelivered, signature_digest=one.signature_digest)
        return state_machine.accept(request, envelope, run_id(self.made), self.now)

    def compare(self, run: Run, response: Accepted | RequestRefused) -> None:
        holder = self.holder(run)
        if holder is None:
            assert response == Accepted(run, replayed=False), "I13: a request of its own"
            self.kept[run.run_id] = run
            self.named |= dict.fromkeys(self.names(run), run)
        elif holder.fingerprint == run.fingerprint:
            assert isinstance(response, Accepted)
            assert (response.run.run_id, response.replayed) == (holder.run_id, True), "I13: the same request"
        else:
            assert isinstance(response, RequestRefused)
            assert response.code == "idempotency_conflict", "I13: never a second run, never dropped in silence"

    def holder(self, run: Run) -> Run | None:
        if self.may_be_a_copy(run):
            earlier = [
                one
                for one in self.kept.values()
                if one.request.idempotency_key is None
                and (one.envelope.source, one.fingerprint) == (run.envelope.source, run.fingerprint)
                and one.accepted_at >= run.accepted_at - REMEMBER_UNKEYED
            ]
            if earlier:
                return max(earlier, key=lambda one: one.run_id)
        return next((self.named[name] for name in self.names(run) if name in self.named), None)

    def names(self, run: Run) -> list[tuple[str | None, ...]]:
        """Scoped by the sender; a key also by the crew."""
        key = ("key", run.envelope.source, run.crew, run.request.idempotency_key)
        signature_digest = ("signature_digest", run.envelope.source, run.envelope.signature_digest)
        return [name for name in (key, signature_digest) if name[-1] is not None]

    def may_be_a_copy(self, run: Run) -> bool:
        return run.envelope.redelivered and not self.names(run)

    @invariant()
    def nothing_is_lost_or_duplicated(self) -> None:
        with self.engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(runs)).scalar_one() == len(self.kept), "I1"


TestKeys = KeyMachine.TestCase
TestKeys.settings = settings(max_examples=40, stateful_step_count=15)
