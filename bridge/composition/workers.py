"""Build the steps and their workers."""

from functools import partial

from bridge.composition.policies import callback_rules, kickoff_capacity
from bridge.composition.runtime import Runtime, new_id
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.runs import kickoff_memory
from bridge.ports.deliveries import Sender
from bridge.ports.inbound import Accept, ApplyCommand
from bridge.ports.lifecycle import Service
from bridge.steps._crew import Crew
from bridge.steps.delivery import DeliverEvents
from bridge.steps.maintenance.crew_probe import ProbeCrew
from bridge.steps.maintenance.housekeeping import Housekeeping
from bridge.steps.maintenance.rebalance import Rebalance
from bridge.steps.maintenance.run_time_stats import SyncRunTimes
from bridge.steps.recovery.in_doubt import ResolveInDoubt
from bridge.steps.recovery.late_results import PollLateResults
from bridge.steps.recovery.recover import Recover
from bridge.steps.runs.accept import AcceptRequest, CheckInputs
from bridge.steps.runs.deferred_commands import ApplyDeferredCommands
from bridge.steps.runs.human_input import SubmitHumanInput
from bridge.steps.runs.kickoff import Kickoff
from bridge.steps.runs.poll import Poll
from bridge.steps.webhook_inbox import HandleWebhooks

MAX_CONCURRENT_POLLS = 128  # per crew
MAX_CONCURRENT_HUMAN_INPUTS = 32  # per crew
MAX_CONCURRENT_LATE_POLLS = 10  # per crew
CALLBACK_LIMITS = ConcurrencyLimits(slots=200)
RECOVER_BATCH = 2000  # runs without an owner


def build_accept(runtime: Runtime, check_inputs: CheckInputs) -> Accept:
    """Build the step that stores requests."""
    rules, notify = callback_rules(runtime.settings), runtime.signals.kickoff
    return AcceptRequest(
        runtime.store, runtime.crews, rules, runtime.clock, new_id, check_inputs, notify, runtime.redactor
    )


def build_callback_worker(runtime: Runtime, sender: Sender) -> Service:
    """Build the worker that sends callbacks."""
    store, settings = runtime.store, runtime.settings
    deliver = DeliverEvents(
        "deliver-callbacks", lambda limit, now: store.claim_callbacks(limit, CALLBACK_LIMITS, now), sender, store,
        runtime.clock, runtime.signals.deliver, results_exchange=settings.amqp is not None,
    )  # fmt: skip
    return runtime.worker(deliver, CALLBACK_LIMITS.slots)


def build_workers(runtime: Runtime, apply_command: ApplyCommand) -> list[Service]:
    """Build one worker per crew and step, so that a slow crew delays no other, and one per common step."""
    clock, store, crews, signals = runtime.clock, runtime.store, runtime.crews, runtime.signals
    retention = runtime.settings.store.retention
    workers = [
        runtime.worker(Housekeeping(crews, store.cluster, clock, retention, signals.recover), 1),
        runtime.worker(Recover(crews, store, clock, signals.poll), RECOVER_BATCH),
        runtime.worker(SyncRunTimes(crews, store.run_times, clock, shared=store.shared), 1),
        runtime.worker(ResolveInDoubt(crews, store, clock, signals.deliver), 10),
        runtime.worker(ApplyDeferredCommands(apply_command, store.commands, clock), 10),
        runtime.worker(
            HandleWebhooks(crews, store, store.inbox, clock, signals.poll, signals.recover, signals.deliver), 50
        ),
    ]
    for crew in crews.values():
        workers += _crew_workers(runtime, crew)
    if store.shared:
        workers.append(runtime.worker(Rebalance(crews, store.cluster, clock, signals.recover), 1))
    return workers


def _crew_workers(runtime: Runtime, crew: Crew) -> list[Service]:
    clock, store, signals = runtime.clock, runtime.store, runtime.signals
    notify_kickoff, notify_poll = partial(signals.kickoff, crew.name), partial(signals.poll, crew.name)
    max_bytes = kickoff_memory.MAX_BYTES // len(runtime.crews)
    kickoff = Kickoff(
        crew, store, clock, notify_kickoff, notify_poll, signals.deliver, signals.inbox, runtime.journal, max_bytes
    )
    poll = Poll(crew, store, clock, notify_kickoff, signals.deliver, signals.recover)
    return [
        runtime.worker(kickoff, kickoff_capacity(runtime.settings.crews[crew.name])),
        runtime.worker(poll, MAX_CONCURRENT_POLLS),
        runtime.worker(ProbeCrew(crew, clock, notify_kickoff, notify_poll), 1),
        runtime.worker(PollLateResults(crew, store, clock, signals.deliver), MAX_CONCURRENT_LATE_POLLS),
        runtime.worker(SubmitHumanInput(crew, store, clock, signals.deliver), MAX_CONCURRENT_HUMAN_INPUTS),
    ]
