"""Hypothesis state machines: any order of responses, deaths, commands, and repeats.

The invariants are named as in `docs/reliability.md`: accepted requests are not lost, possible executions are not paid
for twice, and an end is final.
"""

import ipaddress
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.core.addresses import is_public, may_be_called
from bridge.core.crew import responses
from bridge.core.crew_policy import CrewPolicy, DoubtPolicy
from bridge.core.delivery.model import Channel, Delivery, DeliveryState
from bridge.core.delivery.outcome import Confirmed, Retryable, Undeliverable, outcome_of_attempt
from bridge.core.errors import PostInProgress, RequestRefused
from bridge.core.runs import state_machine, tracking
from bridge.core.runs.commands import Abandon, Cancel, Retry, apply_command
from bridge.core.runs.model import FINAL_STATES, TRACKED_STATES, Decision, Run, State
from bridge.core.runs.observation import apply_observation, observe
from tests.fakes import NOW, a_delivery, a_run

EXAMPLES = settings(max_examples=120, stateful_step_count=40)
FINAL_EVENTS = {f"run.{state}" for state in FINAL_STATES}

kickoff_responses = st.sampled_from(
    [
        responses.Started("k-1"),
        responses.Refused("HTTP 422"),
        responses.NotStarted("HTTP 503", 3.0),
        responses.CrewUnavailable("HTTP 401"),
        responses.InDoubt("HTTP 502"),
    ]
)
status_responses = st.sampled_from(
    [
        responses.Pending(),
        responses.Running(),
        responses.Running({"completed": 1}),
        responses.Succeeded("done"),
        responses.Failed("boom"),
        responses.WaitingForHuman(),
        responses.NotFound(),
        responses.Unknown("HTML"),
        responses.NoResponse("HTTP 500"),
        responses.CrewUnavailable("HTTP 401"),
    ]
)


class RunMachine(RuleBasedStateMachine):
    """One run in a model of the store: a row with its version, and the events that were written with it."""

    @initialize(policy=st.sampled_from(list(DoubtPolicy)), late=st.sampled_from([5.0, 600.0]))
    def begin(self, policy: DoubtPolicy, late: float) -> None:
        self.policy = CrewPolicy(in_doubt=policy, in_doubt_after=10.0, deadline=late, results_exchange=True)
        self.now = NOW
        self.run: Run = a_run()
        self.events: dict[str, bytes] = {}
        self.finals: list[str] = []
        self.runs_in_progress: Run | None = None
        self.tracked = (
            None if self.run.kickoff_id is None else tracking.tracked_from_run(self.run, self.policy, self.now)
        )
        self.posts = 0
        self.proven = 0
        self.ended_as: Run | None = None

    def commit(self, decision: Decision) -> bool:
        """Like the store: a decision on an old version changes nothing."""
        if decision.run.version != self.run.version:
            return False
        assert (
            self.run.state is decision.run.state or decision.run.state in state_machine.TRANSITIONS[self.run.state]
        ), "I7"
        self.run = replace(decision.run, version=self.run.version + 1)
        for delivery in decision.deliveries:
            known = self.events.setdefault(delivery.event.event_id, delivery.event.body)
            assert known == delivery.event.body, "I9, I10: one id, one text"
            if delivery.event.type in FINAL_EVENTS:
                self.finals.append(delivery.event.type)
        return True

    @rule(seconds=st.sampled_from([0.1, 1.0, 11.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.run.state is State.ACCEPTED and self.runs_in_progress is None)
    @rule()
    def post(self) -> None:
        assert self.commit(Decision(state_machine.begin(self.run, self.now)))
        self.posts += 1
        self.runs_in_progress = self.run

    @precondition(lambda self: self.runs_in_progress is not None)
    @rule(response=kickoff_responses)
    def post_is_answered(self, response: responses.KickoffResponse) -> None:
        starting, self.runs_in_progress = self.runs_in_progress, None
        assert starting is not None
        written = self.commit(state_machine.on_kickoff(starting, response, self.policy, self.now))
        if written and isinstance(response, responses.NotStarted | responses.CrewUnavailable):
            self.proven += 1

    @precondition(lambda self: self.run.state is State.STARTING)
    @rule()
    def process_dies_during_the_post(self) -> None:
        self.run = replace(self.run, version=self.run.version + 1)  # its rows are released
        self.runs_in_progress = None
        assert self.commit(state_machine.on_interrupted_kickoff(self.run, self.policy, self.now))

    @precondition(lambda self: self.run.state is State.STARTING)
    @rule()
    def process_expires_and_resumes_late(self) -> None:
        """Its response arrives after other processes claimed the run: a POST still in flight."""
        self.run = replace(self.run, version=self.run.version + 1)
        assert self.commit(state_machine.on_interrupted_kickoff(self.run, self.policy, self.now))

    @precondition(lambda self: self.run.state is State.IN_DOUBT)
    @rule()
    def evidence_arrives(self) -> None:
        decision = state_machine.on_evidence(self.run, "k-2", self.policy, self.now)
        assert decision is not None
        self.commit(decision)

    @precondition(lambda self: self.run.state is State.IN_DOUBT and self.runs_in_progress is None)
    @rule()
    def doubt_lasts(self) -> None:
        if self.run.due_at is not None and self.now >= self.run.due_at:
            self.commit(state_machine.on_evidence_overdue(self.run, self.policy, self.now))
            self.proven += self.run.state is State.ACCEPTED

    @precondition(lambda self: self.run.state in TRACKED_STATES)
    @rule(response=status_responses, old=st.booleans())
    def poll(self, response: responses.StatusResponse, old: bool) -> None:
        tracked = tracking.sync_with_run(
            self.tracked or tracking.tracked_from_run(self.run, self.policy, self.now), self.run
        )
        observation = observe(tracked, response, self.policy, self.now)
        self.tracked = seen = observation.tracked
        if not observation.changes:
            return
        decision = apply_observation(self.run, observation, self.policy)
        if decision.run.state is State.TIMED_OUT:
            assert seen.deadline_at is not None, "I15"
            assert self.now >= seen.deadline_at, "I15"
            assert not isinstance(response, responses.NoResponse | responses.CrewUnavailable), (
                "I15: a clock alone ends no run"
            )
        stale = replace(decision, run=replace(decision.run, version=decision.run.version - 1)) if old else decision
        self.commit(stale)

    @rule(command=st.sampled_from([Cancel(), Retry(), Abandon()]))
    def command_arrives(self, command: Cancel | Retry | Abandon) -> None:
        try:
            decision = apply_command(self.run, command, self.policy, self.now)
        except (RequestRefused, PostInProgress):
            return
        if decision is not None and self.runs_in_progress is None:
            self.proven += isinstance(command, Retry)
            self.commit(decision)

    @invariant()
    def nothing_is_paid_for_twice(self) -> None:
        assert self.posts <= 1 + self.proven, "I2, I4: a POST more than proofs and permissions"

    @invariant()
    def an_end_is_final(self) -> None:
        assert len(self.finals) == int(self.run.final), "I8, I14: exactly one final event"
        if self.ended_as is not None:
            assert (self.run.state, self.run.outcome) == (self.ended_as.state, self.ended_as.outcome), "I7"
        elif self.run.final:
            self.ended_as = self.run

    @invariant()
    def a_running_run_has_an_execution(self) -> None:
        assert self.run.state is not State.RUNNING or self.run.kickoff_id is not None


class DeliveryMachine(RuleBasedStateMachine):
    """One delivery with any behavior of its receiver: never forgotten, never early, never after its end."""

    @initialize(channel=st.sampled_from(list(Channel)))
    def begin(self, channel: Channel) -> None:
        self.delivery: Delivery = a_delivery(channel=channel)
        self.sent: set[bytes] = set()
        self.now = NOW
        self.confirmed = False
        self.refused = False

    @precondition(lambda self: self.delivery.state is DeliveryState.PENDING)
    @rule(
        response=st.one_of(
            st.just(Confirmed()),
            st.just(Undeliverable("HTTP 410")),
            st.builds(Retryable, st.just("HTTP 503"), st.none() | st.floats(0.0, 1e7)),
        )
    )
    def send(self, response: Confirmed | Undeliverable | Retryable) -> None:
        self.now = max(self.now, self.delivery.due_at)
        self.sent.add(self.delivery.event.body)
        before, self.delivery = self.delivery, outcome_of_attempt(self.delivery, response, self.now).delivery
        self.confirmed |= isinstance(response, Confirmed)
        self.refused |= isinstance(response, Undeliverable)
        assert self.delivery.attempts == before.attempts + 1
        if self.delivery.state is DeliveryState.PENDING:
            assert isinstance(response, Retryable)
            requested = min(response.after or 0.0, 86_400.0)
            assert self.now + requested <= self.delivery.due_at <= self.now + 86_400.0 * 1.2, "Retry-After, up to a day"

    @rule(seconds=st.floats(0.0, 86_400.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def delivered_means_confirmed(self) -> None:
        assert (self.delivery.state is DeliveryState.DELIVERED) == self.confirmed, "I11"
        assert len(self.sent) <= 1, "I10"

    @invariant()
    def exchange_deliveries_never_expire(self) -> None:
        ours = self.delivery.destination.channel in {Channel.EXCHANGE, Channel.DEAD_LETTER}
        assert not ours or self.delivery.state is not DeliveryState.DEAD or self.refused, "I12"


class AddressMachine(RuleBasedStateMachine):
    """Addresses against an independent list, written differently from the policy."""

    PRIVATE = ("10.1.2.3", "127.0.0.1", "169.254.169.254", "172.31.255.1", "192.168.0.1", "100.64.0.1", "0.0.0.0")
    PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111")

    @rule(host=st.sampled_from(PRIVATE))
    def private_in_any_spelling(self, host: str) -> None:
        number = int(ipaddress.IPv4Address(host))
        for written in (
            ipaddress.IPv4Address(number),
            ipaddress.IPv6Address((0xFFFF << 32) | number),  # mapped
            ipaddress.IPv6Address(number),  # compatible
            ipaddress.IPv6Address((0x0064FF9B << 96) | number),  # NAT64
            ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),  # 6to4
            ipaddress.IPv6Address((0x20014860 << 96) | (0x5EFE << 32) | number),  # ISATAP
        ):
            assert not may_be_called(written, allow_private=False), f"I17: {written}"

    @rule(host=st.sampled_from(PUBLIC))
    def public_is_allowed(self, host: str) -> None:
        assert may_be_called(ipaddress.ip_address(host), allow_private=False)

    @rule(number=st.integers(0, 2**32 - 1))
    def no_private_v4_is_allowed(self, number: int) -> None:
        address = ipaddress.IPv4Address(number)
        if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
            assert not is_public(address), "I17"


TestRun = RunMachine.TestCase
TestRun.settings = EXAMPLES
TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = EXAMPLES
TestAddress = AddressMachine.TestCase
TestAddress.settings = EXAMPLES
