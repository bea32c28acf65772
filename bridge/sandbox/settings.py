"""Define and validate the settings of the sandbox."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bridge.sandbox.controls import MOST_QUESTIONS
from bridge.sandbox.dialects import Dialect
from bridge.sandbox.execution import Kind
from bridge.sandbox.inputs import Inputs, InputsShape
from bridge.sandbox.rules import rules_from
from bridge.sandbox.script import Script
from bridge.sandbox.stream import Parents
from bridge.sandbox.times import Fixed, RunTime

HumanStatus = Literal["not_found", "paused", "running"]
ResumedStatus = Literal["not_found", "follows", "failed"]
FlowHitlShape = Literal["flat", "nested"]
FlowHitlKey = Literal["text", "hex"]

DEFAULT_PORT = 8090
"""The default port of the CLI; `SandboxSettings` defaults to any free port."""

DEFAULT_RUN_TIME = Fixed(2.0)

_FRACTIONS = (
    "failure_rate",
    "kickoff_fault_rate",
    "status_fault_rate",
    "resume_fault_rate",
    "stop_fault_rate",
    "webhook_loss_rate",
    "webhook_duplicate_rate",
)
_CHOICES: Mapping[str, tuple[str | None, ...]] = {
    "kind": get_args(Kind),
    "dialect": get_args(Dialect),
    "inputs_shape": get_args(InputsShape),
    "human_status": (None, *get_args(HumanStatus)),
    "resumed_status": get_args(ResumedStatus),
    "flow_hitl_shape": get_args(FlowHitlShape),
    "flow_hitl_key": get_args(FlowHitlKey),
    "stream_parents": get_args(Parents),
}


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """The deployment to simulate, and how reliably it behaves.

    Times are seconds, rates are fractions from 0 to 1. A `port` of 0 takes any free port; `public_url` is the address
    under which callers reach it, if it differs from the one it listens on.
    `workers` is how many executions run at the same time; others wait as PENDING; None means no limit.
    `kickoff_delay` passes between the start of an execution and the response with its ID.
    `failure_rate` is the fraction of executions that end FAILED; the fault rates are fractions of calls that get a 503.
    `faults` are rules active from the start, in the form that `/_faults` accepts; `script` are entries
    of `/_script`.
    With a `ledger_file` the ledger outlives the process, and a sandbox restarted on it restores its executions.
    The same `seed` gives the same run times and failures, kickoff by kickoff.

    `inputs` are the names that a caller may send; a kickoff without one of the `required_inputs` is refused. If those
    are None, `/inputs` does not report them, and a crew requires every input, a flow none.
    `/status` shows everything `status_lag` seconds late, webhooks do not.
    `dialect` is the format of `/status`, `inputs_shape` that of `/inputs`. `quota` is how many executions it starts
    before it refuses, `stop` whether there is a `/stop`.

    An execution waits `human_questions` times for a human and meanwhile has the status `human_status` (None: NOT FOUND
    for a crew, PAUSED for a flow); `resumed_status` is the status of the IDs that `/resume` of a crew returns. The
    questions of a flow go to `flow_hitl_url`, in `flow_hitl_shape`, signed with `flow_hitl_secret`; `flow_hitl_key` is
    its whole text, or the part after `whsec_` read as hex.

    The fraction `webhook_loss_rate` of the webhooks is never sent, `webhook_duplicate_rate` is sent twice; each is
    delayed by up to `webhook_delay`, and with `webhook_reorder` they arrive out of order. A webhook without a response
    within `webhook_timeout` is abandoned. `stream_nested` adds the events of inner executions to the streaming webhook;
    `stream_parents` is whether they name their parent: `reported`, or not in `threads` of a flow, or `absent` from all.
    """

    host: str = "127.0.0.1"
    port: int = 0
    public_url: str | None = None
    token: str = "sandbox-token"  # noqa: S105  (not a secret: it protects only the sandbox)
    kind: Kind = "crew"
    inputs: tuple[str, ...] = ("topic",)
    required_inputs: tuple[str, ...] | None = None
    run_time: RunTime = DEFAULT_RUN_TIME
    failure_rate: float = 0.0
    seed: int = 0
    workers: int | None = None
    ledger_file: Path | None = None
    kickoff_delay: float = 0.0
    kickoff_fault_rate: float = 0.0
    status_fault_rate: float = 0.0
    resume_fault_rate: float = 0.0
    stop_fault_rate: float = 0.0
    faults: tuple[Mapping[str, object], ...] = ()
    script: tuple[Mapping[str, object], ...] = ()
    status_lag: float = 0.0
    dialect: Dialect = "live"
    inputs_shape: InputsShape = "list"
    quota: int | None = None
    stop: bool = False
    human_questions: int = 0
    human_status: HumanStatus | None = None
    resumed_status: ResumedStatus = "not_found"
    flow_hitl_url: str | None = None
    flow_hitl_secret: str = "whsec_73616e64626f782d6869746c2d736563"  # noqa: S105  (not a secret either)
    flow_hitl_key: FlowHitlKey = "text"
    flow_hitl_shape: FlowHitlShape = "flat"
    webhook_loss_rate: float = 0.0
    webhook_delay: float = 0.0
    webhook_duplicate_rate: float = 0.0
    webhook_reorder: bool = False
    webhook_timeout: float = 5.0
    stream_nested: bool = False
    stream_parents: Parents = "reported"

    def __post_init__(self) -> None:
        """Raise ValueError naming the first invalid setting."""
        for name in _FRACTIONS:
            _require(0 <= getattr(self, name) <= 1, f"{name} must be between 0 and 1")
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, f"{name} must be one of {', '.join(filter(None, choices))}")
        for name in ("token", "flow_hitl_secret"):
            _require(bool(getattr(self, name)), f"{name} must not be empty")
        for name in ("kickoff_delay", "status_lag", "webhook_delay"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative")
        _require(self.workers is None or self.workers >= 1, "workers must be at least 1")
        _require(self.quota is None or self.quota >= 0, "quota must not be negative")
        _require(0 <= self.human_questions <= MOST_QUESTIONS, f"human_questions must be from 0 to {MOST_QUESTIONS}")
        rules_from(self.faults)
        Script(self.script)
        _require(bool(self.signing_key), "flow_hitl_secret must have a key after whsec_")
        Inputs(self.inputs, self.required_inputs)
        _require(self.webhook_timeout > 0, "webhook_timeout must be more than 0")

    @property
    def signing_key(self) -> bytes:
        """Return the key that signs a flow's questions; raise ValueError if the secret must be hex and is not."""
        if self.flow_hitl_key == "text":
            return self.flow_hitl_secret.encode()
        try:
            return bytes.fromhex(self.flow_hitl_secret.removeprefix("whsec_"))
        except ValueError:
            raise ValueError("flow_hitl_secret must be hex after whsec_, because flow_hitl_key is hex") from None


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001  (a condition, not a switch)
    if not holds:
        raise ValueError(otherwise)
