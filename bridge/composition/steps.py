"""Build the steps of a process from its ports, and the workers that run them.

The daemon passes adapters, the tests of steps pass fakes, and the simulation passes simulated ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bridge.adapters.store import SqlStore
from bridge.composition.policies import StepRules
from bridge.core.delivery.model import Channel
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.redaction import Redactor
from bridge.core.runs import kickoff_memory
from bridge.ports.deliveries import Sender
from bridge.ports.journal import Journal
from bridge.ports.lifecycle import Clock, NewId, ReportFault, Service, Step
from bridge.ports.tracing import NOT_TRACED, Tracing
from bridge.signals import Signals
from bridge.steps._crew import Crew
from bridge.steps.delivery import DeliverEvents
from bridge.steps.maintenance.crew_probe import ProbeCrew
from bridge.steps.maintenance.housekeeping import Housekeeping
from bridge.steps.maintenance.rebalance import Rebalance
from bridge.steps.maintenance.run_time_stats import SyncRunTimes
from bridge.steps.recovery.in_doubt import ResolveInDoubt
from bridge.steps.recovery.late_results import PollLateResults
from bridge.steps.recovery.recover import Recover
from bridge.steps.runs.accept import AcceptRequest, CheckInputs, RefuseMessage
from bridge.steps.runs.commands import ApplyCommand
from bridge.steps.runs.deferred_commands import AcceptCommand, ApplyDeferredCommands
from bridge.steps.runs.expire import ExpireRuns
from bridge.steps.runs.human_input import SubmitHumanInput
from bridge.steps.runs.kickoff import MAX_IN_PROGRESS, Kickoff
from bridge.steps.runs.poll import Poll
from bridge.steps.runs.waiting import ExplainWaiting
from bridge.steps.webhook_inbox import HandleWebhooks, ReceiveWebhooks
from bridge.worker import Worker

MAX_CONCURRENT_POLLS = 128  # per crew
MAX_CONCURRENT_HUMAN_INPUTS = 32  # per crew
MAX_CONCURRENT_LATE_POLLS = 10  # per crew
MAX_UNCONFIRMED_PUBLISHES = 100
CALLBACK_LIMITS = ConcurrencyLimits(slots=200)
BROKER_CHANNELS = (Channel.EXCHANGE, Channel.QUEUE, Channel.DEAD_LETTER)
RECOVER_BATCH = 2000  # runs without an owner


@dataclass(frozen=True)
class Steps:
    """Builds every step of one process, a new one at each access; crews may be added until the first is built."""

    store: SqlStore
    crews: Mapping[str, Crew]
    clock: Clock
    new_id: NewId
    journal: Journal
    rules: StepRules
    signals: Signals = field(default_factory=Signals)
    redactor: Redactor = field(default_factory=Redactor)
    max_kickoff_bytes: int = kickoff_memory.MAX_BYTES
    tracing: Tracing = NOT_TRACED

    # ---- what listeners call

    def accept(self, check_inputs: CheckInputs) -> AcceptRequest:
        return AcceptRequest(
            self.store, self.store.queries, self.crews, lambda: self.rules.callbacks, self.clock, self.new_id,
            check_inputs, self.signals, self.redactor, self.tracing,
        )  # fmt: skip

    def refuse(self, dead_queue: str) -> RefuseMessage:
        return RefuseMessage(self.store.deliveries, dead_queue, self.clock, self.new_id, self.signals)

    @property
    def apply_command(self) -> ApplyCommand:
        return ApplyCommand(
            self.crews, self.store, self.clock, self.signals, lambda: self.rules.orphaned, self.redactor
        )

    @property
    def accept_command(self) -> AcceptCommand:
        return AcceptCommand(self.apply_command, self.store.commands, self.clock)

    @property
    def explain_waiting(self) -> ExplainWaiting:
        return ExplainWaiting(self.crews, self.store.queries, self.clock)

    @property
    def receive_webhooks(self) -> ReceiveWebhooks:
        store = self.store
        return ReceiveWebhooks(
            store.key, self.crews, store.queries, store.inbox, self.clock, self.new_id, self.signals,
            shared=store.shared,
        )  # fmt: skip

    # ---- what workers run, for one crew

    def kickoff(self, crew: Crew) -> Kickoff:
        return Kickoff(
            crew, self.store, self.clock, self.signals, self.journal,
            lambda: self.max_kickoff_bytes // len(self.crews), self.tracing,
        )  # fmt: skip

    def poll(self, crew: Crew) -> Poll:
        return Poll(crew, self.store, self.clock, self.signals)

    def human_input(self, crew: Crew) -> SubmitHumanInput:
        return SubmitHumanInput(crew, self.store, self.clock, self.signals)

    def late_results(self, crew: Crew) -> PollLateResults:
        return PollLateResults(crew, self.store, self.clock, self.signals)

    def probe(self, crew: Crew) -> ProbeCrew:
        return ProbeCrew(crew, self.clock, self.signals)

    # ---- what workers run, for all crews

    @property
    def recover(self) -> Recover:
        return Recover(self.crews, self.store, self.clock, self.signals)

    @property
    def in_doubt(self) -> ResolveInDoubt:
        return ResolveInDoubt(self.crews, self.store, self.clock, self.signals)

    @property
    def expire(self) -> ExpireRuns:
        return ExpireRuns(self.crews, self.store, self.clock, self.signals)

    @property
    def deferred_commands(self) -> ApplyDeferredCommands:
        return ApplyDeferredCommands(self.apply_command, self.store.commands, self.clock)

    @property
    def handle_webhooks(self) -> HandleWebhooks:
        return HandleWebhooks(self.crews, self.store, self.store.inbox, self.clock, self.signals)

    @property
    def housekeeping(self) -> Housekeeping:
        return Housekeeping(self.crews, self.store.cluster, self.clock, self.rules.retention, self.signals)

    @property
    def rebalance(self) -> Rebalance:
        return Rebalance(self.crews, self.store.cluster, self.clock, self.signals)

    @property
    def run_times(self) -> SyncRunTimes:
        return SyncRunTimes(self.crews, self.store.run_times, self.clock, shared=self.store.shared)

    def deliver_callbacks(self, sender: Sender) -> DeliverEvents:
        store = self.store.deliveries
        return DeliverEvents(
            "deliver-callbacks", lambda limit, now: store.claim_callbacks(limit, CALLBACK_LIMITS, now), sender, store,
            self.clock, self.signals, self.rules.delivery, self.tracing,
        )  # fmt: skip

    def deliver_broker(self, sender: Sender) -> DeliverEvents:
        claim = partial(self.store.deliveries.claim, BROKER_CHANNELS)
        return DeliverEvents(
            "deliver-broker", claim, sender, self.store.deliveries, self.clock, self.signals, self.rules.delivery,
            self.tracing,
        )  # fmt: skip


def build_workers(steps: Steps, report: ReportFault) -> list[Service]:
    """Build the common workers, and those of every crew."""
    of_crews = [worker for crew in steps.crews.values() for worker in build_crew_workers(steps, crew, report)]
    return [*build_common_workers(steps, report), *of_crews]


def build_common_workers(steps: Steps, report: ReportFault) -> list[Service]:
    """Build one worker per step that works for all crews."""
    common: list[tuple[Step[Any], int]] = [
        (steps.housekeeping, 1),
        (steps.recover, RECOVER_BATCH),
        (steps.run_times, 1),
        (steps.in_doubt, 10),
        (steps.expire, 50),
        (steps.deferred_commands, 10),
        (steps.handle_webhooks, 50),
    ]
    if steps.store.shared:
        common.append((steps.rebalance, 1))
    return [_worker(steps, step, capacity, report) for step, capacity in common]


def build_crew_workers(steps: Steps, crew: Crew, report: ReportFault) -> list[Service]:
    """Build one worker per step of a crew, so that a slow crew delays no other."""
    own: list[tuple[Step[Any], int]] = [
        (steps.kickoff(crew), MAX_IN_PROGRESS),
        (steps.poll(crew), MAX_CONCURRENT_POLLS),
        (steps.probe(crew), 1),
        (steps.late_results(crew), MAX_CONCURRENT_LATE_POLLS),
        (steps.human_input(crew), MAX_CONCURRENT_HUMAN_INPUTS),
    ]
    return [_worker(steps, step, capacity, report) for step, capacity in own]


def build_deliverers(steps: Steps, callbacks: Sender, broker: Sender | None, report: ReportFault) -> list[Service]:
    """Build the workers that send callbacks and, with a broker, publish."""
    deliverers = [_worker(steps, steps.deliver_callbacks(callbacks), CALLBACK_LIMITS.slots, report)]
    if broker is not None:
        deliverers.append(_worker(steps, steps.deliver_broker(broker), MAX_UNCONFIRMED_PUBLISHES, report))
    return deliverers


def _worker(steps: Steps, step: Step[Any], capacity: int, report: ReportFault) -> Service:
    return Worker(step, capacity, steps.signals[step.name], report)
