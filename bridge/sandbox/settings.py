"""Every knob of the sandbox, checked when it is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.sandbox.times import Fixed, RunTime

Kind = Literal["crew", "flow"]

DEFAULT_PORT = 8090
"""The port a user finds the sandbox on; the settings themselves take any free one."""

DEFAULT_RUN_TIME = Fixed(2.0)


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What kind of deployment the sandbox plays, and how well it behaves.

    Times are seconds, rates are fractions from 0 to 1. A `port` of 0 takes any free port.
    `workers` is how many executions run at the same time; more wait and read PENDING; None is no limit.
    `kickoff_delay` passes between the start of an execution and the answer that tells its id.
    `failure_rate` is the share of executions that end FAILED; the fault rates are the share of calls answered 503.
    With a `ledger_file` the ledger outlives the process, and a sandbox started on it again knows its old executions.
    The same `seed` gives the same run times and failures, kickoff by kickoff.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str = "sandbox-token"  # noqa: S105  (not a secret: it guards nothing but play money)
    kind: Kind = "crew"
    inputs: tuple[str, ...] = ("topic",)
    run_time: RunTime = DEFAULT_RUN_TIME
    failure_rate: float = 0.0
    seed: int = 0
    workers: int | None = None
    ledger_file: Path | None = None
    kickoff_delay: float = 0.0
    kickoff_fault_rate: float = 0.0
    status_fault_rate: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting that makes no sense."""
        for name in ("failure_rate", "kickoff_fault_rate", "status_fault_rate"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must be between 0 and 1")
        _require(self.kind in ("crew", "flow"), "kind must be crew or flow")
        _require(bool(self.token), "token must not be empty")
        _require(self.workers is None or self.workers >= 1, "workers must be at least 1")
        _require(self.kickoff_delay >= 0, "kickoff_delay must not be negative")


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001  (a condition, not a switch)
    if not holds:
        raise ValueError(otherwise)
