"""Values of runs: requests, runs and their states. They change only by `dataclasses.replace`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.core.delivery.model import Delivery, Event
from bridge.core.human_input.model import NO_HUMAN_INPUT, HumanInput

CREW_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Valid crew names. They are half of a routing key `<crew>.<event>`, so they contain no dot."""


class State(StrEnum):
    """The state of a run; `core.runs.state_machine` defines the transitions."""

    ACCEPTED = "accepted"
    STARTING = "starting"
    RUNNING = "running"
    IN_DOUBT = "in_doubt"
    WAITING_FOR_HUMAN = "waiting_for_human"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


Progress = tuple[Any, Any, Any]
"""The part of an execution's progress whose change is emitted: completed, total, current."""

FINAL_STATES = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED})
TRACKED_STATES = frozenset({State.RUNNING, State.WAITING_FOR_HUMAN})
"""The states in which the execution of a run is polled."""


@dataclass(frozen=True, slots=True)
class RestoreFrom:
    """The earlier run of a flow to continue from, by its id or its kickoff id; `state_id`: the id of its saved state.

    The state's id is None until the request is accepted.
    """

    run_id: str | None = None
    kickoff_id: str | None = None
    state_id: str | None = None


@dataclass(frozen=True, slots=True)
class RequestWarning:
    """Why an accepted request may not do what its sender expects: a stable code and a message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class KickoffRequest:
    """What a producer asks for: run this crew with these inputs and send the outcome to this destination.

    `deadline`, and `start_by` from the acceptance, in seconds; None: those of the crew. `retry_of`: the id of the ended
    run whose request this one repeats.
    """

    crew: str
    inputs: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    callback_url: str | None = None
    deadline: float | None = None
    priority: int = 0
    idempotency_key: str | None = None
    restore_from: RestoreFrom | None = None
    start_by: float | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a request arrived. `source` is the authenticated sender; it scopes idempotency keys.

    `sees_all`: the sender may see the runs of other senders.

    `redelivered`: the broker may have delivered this message before. `signature_digest`: a hash of what the sender
    signed; the same digest from the same source identifies the same request, regardless of who sends it again.
    """

    source: str
    reply_to: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    redelivered: bool = False
    signature_digest: str | None = None
    sees_all: bool = False


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run did not succeed: a stable code and a message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an execution. Raw text and parsed JSON are separate; neither replaces the other."""

    result: str | None = None
    result_json: Any = None
    usage: Any = None
    error: RunError | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A finished task. `output`: text, or any JSON; `finished_at`: when its webhook arrived, None without one."""

    name: str | None
    agent: str | None
    output: Any
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class Deferral:
    """A postponed run: why (`detail`), since when, until when, and after how many failures in a row."""

    detail: str
    since: float
    until: float
    failures: int = 1


@dataclass(frozen=True)  # without slots: it is copied ten times, which slots make three times as slow
class Run:
    """The durable record of one accepted kickoff request.

    `version` grows with every write and guards it. `owner` is the process that works on the run. `due_at` is when an
    unowned run can be claimed again; None: never by itself. `sent_at` is when the last POST was about to leave, unless
    it is certain that it started nothing; `started_at` is when the execution was first seen started, from which the
    deadline counts. `expires_at` is when an accepted run ends unless it was started; None: never, because nothing asks
    for it, or because a POST may have left.

    `auto_retries` counts the POSTs that `in_doubt: retry` has repeated; `in_doubt_emitted` is the last attempt for
    which `run.in_doubt` was emitted. `unverified`: the API has not confirmed the kickoff id yet.

    `history`: the encoded entries of `core.runs.history`; empty where a run is loaded only to be listed.
    """

    run_id: str
    request: KickoffRequest
    envelope: Envelope
    fingerprint: str
    state: State
    accepted_at: float
    version: int = 1
    owner: str | None = None
    due_at: float | None = None
    expires_at: float | None = None
    attempt: int = 0
    sent_at: float | None = None
    auto_retries: int = 0
    in_doubt_emitted: int = 0
    kickoff_id: str | None = None
    unverified: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    polls: int = 0
    progress: Any = None
    tasks: tuple[Task, ...] = ()
    outcome: Outcome = Outcome()
    human_input: HumanInput = NO_HUMAN_INPUT
    deferral: Deferral | None = None
    history: tuple[bytes, ...] = ()

    @property
    def held(self) -> bool:
        """Whether it is not started until an operator releases it."""
        return self.state is State.ACCEPTED and self.due_at is None

    @property
    def crew(self) -> str:
        """The name of the run's crew."""
        return self.request.crew

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self.state in FINAL_STATES

    @property
    def traceparent(self) -> str | None:
        """The run's trace context, if it has one."""
        return self.envelope.traceparent

    @property
    def log_fields(self) -> dict[str, str]:
        """What identifies the run in a log line, as far as its sender gave a key and a trace context."""
        fields = {"run_id": self.run_id, "crew": self.crew}
        if self.request.idempotency_key is not None:
            fields["idempotency_key"] = self.request.idempotency_key
        if self.envelope.traceparent is not None:
            fields["trace_id"] = self.envelope.traceparent.split("-")[1]
        return fields


@dataclass(slots=True)
class TrackedRun:
    """What memory holds of a run that is polled: enough to poll its status, small enough for many runs.

    `missing` counts polls in a row that did not find the execution, `errors` polls in a row without a statement about
    it, `pauses` polls in a row that found it waiting for a human. `alive_at` is the last time that the execution was
    known to exist, at first the kickoff itself. `progress` is what was last reported, at `progress_at`.

    `began_at` is where its age starts: the last time that it was known not to have started; None once it has waited
    for a human. `seen_at` is the last time that it was known not to have ended; None until this process has seen it.
    `task_marks` is the time at which each number of tasks was done. `first_polled_at` is for the history only.

    Changed by `replace` like all values here; not frozen, because that would double the cost of every poll.
    """

    run_id: str
    crew: str
    kickoff_id: str
    deadline: float
    alive_at: float
    started_at: float | None = None
    polls: int = 0
    missing: int = 0
    errors: int = 0
    tasks_done: int | None = None
    began_at: float | None = None
    seen_at: float | None = None
    task_marks: tuple[tuple[int, float], ...] = ()
    pauses: int = 0
    seen_alive: bool = False
    progress: Progress | None = None
    progress_at: float = float("-inf")
    waiting: bool = False
    deferred: bool = False
    unverified: bool = False
    human_input: HumanInput = NO_HUMAN_INPUT
    first_polled_at: float | None = field(default=None, compare=False)

    @property
    def log_fields(self) -> dict[str, str]:
        """What identifies the run in a log line, as far as memory holds it."""
        return {"run_id": self.run_id, "crew": self.crew}

    @property
    def deadline_at(self) -> float | None:
        """When the deadline passes; None until the execution was seen started."""
        return None if self.started_at is None else self.started_at + self.deadline


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long one run took: it ended between the ages `earliest` and `latest` in seconds, equal if known exactly.

    `task_marks`: the age at which each number of tasks was done.
    """

    run_id: str
    crew: str
    ended_at: float
    earliest: float
    latest: float
    task_marks: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The next content of the store: the run's next row and the deliveries to add, written in one transaction.

    `unaddressed`: events without a destination, stored for readers of the event stream.
    """

    run: Run
    deliveries: tuple[Delivery, ...] = ()
    unaddressed: tuple[Event, ...] = ()

    @property
    def ends_run(self) -> bool:
        """Whether this ends the run: it contains the run's final event."""
        events = (*(delivery.event for delivery in self.deliveries), *self.unaddressed)
        return self.run.final and any(event.type == f"run.{self.run.state}" for event in events)

    def after(self, earlier: "Decision") -> "Decision":
        """Return this decision with the events of an earlier one put first."""
        return Decision(self.run, earlier.deliveries + self.deliveries, earlier.unaddressed + self.unaddressed)
