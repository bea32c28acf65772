"""Values of runs: the request, the run and its states, the policy of a crew; changed only by `dataclasses.replace`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.core.delivery.model import Delivery, Event
from bridge.core.human_input.model import NO_HUMAN_INPUT, HumanInput
from bridge.core.runs.deferral import Deferral

CREW_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a crew may be called: half of a routing key `<crew>.<event>`, so it holds no dot."""


class State(StrEnum):
    """Where a run stands; the arrows between states are in `core.lifecycle`."""

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
"""The part of an execution's progress whose change is news: completed, total, current."""

FINAL_STATES = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED})


class DoubtPolicy(StrEnum):
    """What becomes of a run whose POST may or may not have started an execution."""

    HOLD = "hold"
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CrewPolicy:
    """What the operator decided for one crew; durations in seconds."""

    deadline: float = 3600.0
    in_doubt: DoubtPolicy = DoubtPolicy.HOLD
    in_doubt_after: float = 900.0
    human_input: bool = False
    extra_events: frozenset[str] = frozenset()
    callback_url: str | None = None
    results_exchange: bool = False
    max_event_bytes: int = 256 * 1024
    """A final event that would be larger carries a link to the result, below `api_url`."""
    api_url: str = ""
    poll_per_run: float = 5.0
    poll_min_interval: float = 1.0
    poll_max_interval: float = 60.0
    is_flow: bool = False
    """Whether this is a flow: it takes any values, where a crew takes text, and asks humans by a webhook of its own."""
    questions_announced: bool = False
    """Whether webhooks bring the questions to humans, so that a status alone is believed only the second time."""
    human_deadline: float | None = None
    human_default: str | None = None


@dataclass(frozen=True, slots=True)
class KickoffRequest:
    """What a producer asks for: run this crew with these inputs and tell me there.

    `deadline` in seconds; None: the crew's own.
    """

    crew: str
    inputs: Mapping[str, Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    callback_url: str | None = None
    deadline: float | None = None
    priority: int = 0
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a request came in. `source` is the authenticated sender; idempotency keys are scoped by it.

    `redelivered`: the broker says that this message may have been seen before. `signature_digest`: a hash of what the
    sender signed; the same seal from the same source is the same request, sent again by whomever.
    """

    source: str
    reply_to: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    redelivered: bool = False
    signature_digest: str | None = None


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run did not succeed: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution left behind: raw text and parsed JSON are kept apart, neither replaces the other."""

    result: str | None = None
    result_json: Any = None
    usage: Any = None
    error: RunError | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The durable record of one accepted kickoff request.

    `version` grows with every write and guards it. `owner` is the process that works on the run. `due_at` is when the
    store should hand an unowned run out again; None: never by itself. `sent_at` is when the last POST was about to
    leave, unless that proved to have started nothing; `started_at` when the execution was first seen started, from
    which the deadline counts.

    `auto_retries` counts the POSTs that `in_doubt: retry` has repeated; `in_doubt_emitted` is the last attempt of which
    `run.in_doubt` was emitted. `unverified`: the kickoff id is a claim that the API has not confirmed yet.
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
    outcome: Outcome = Outcome()
    human_input: HumanInput = NO_HUMAN_INPUT
    deferral: Deferral | None = None

    @property
    def crew(self) -> str:
        """The crew that the run belongs to."""
        return self.request.crew

    @property
    def final(self) -> bool:
        """Whether the run is over for good."""
        return self.state in FINAL_STATES


@dataclass(slots=True)
class TrackedRun:
    """What is kept in memory of a run that is being followed: enough to look at its status, small enough for many.

    `missing` counts looks in a row that did not find the execution, `errors` looks in a row that got no statement at
    all, `pauses` looks in a row that found it waiting for a human. `alive_at` is the last time that the execution was
    known to exist, at first the kickoff itself. `progress` is what was last told of it, at `progress_at`.

    `began_at` is what its age counts from: the last time that it was known not to have started; None once it waited
    for a human. `seen_at` is the last time that it was known not to be over; None while this process does not know.
    `task_marks` tells since when so many tasks were done.

    Changed by `replace` like everything here; only not frozen, because that costs twice as much at every look.
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

    @property
    def deadline_at(self) -> float | None:
        """When the deadline passes; None while the execution has not been seen started."""
        return None if self.started_at is None else self.started_at + self.deadline


@dataclass(frozen=True, slots=True)
class RunTime:
    """How long one run took: it ended between two ages in seconds, `earliest` and `latest`, equal if that is known.

    `task_marks`: from which age on so many of its tasks were done.
    """

    run_id: str
    crew: str
    ended_at: float
    earliest: float
    latest: float
    task_marks: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What the store must look like next: the run's next row and the deliveries to add, in one transaction.

    `unaddressed`: events that nobody asked to be sent, kept for those who watch the stream.
    """

    run: Run
    deliveries: tuple[Delivery, ...] = ()
    unaddressed: tuple[Event, ...] = ()

    def after(self, earlier: "Decision") -> "Decision":
        """The run of this one, and what both tell, the earlier one first."""
        return Decision(self.run, earlier.deliveries + self.deliveries, earlier.unaddressed + self.unaddressed)
