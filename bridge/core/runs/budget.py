"""Budgets: how many runs of a crew, or of a sender, may start within a period. Further runs wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `runs` POSTs that started, or may have started, an execution within any `per` seconds."""

    runs: int
    per: float


@dataclass(frozen=True, slots=True)
class SpentBudget:
    """A budget that permits no start before `until`."""

    runs: int
    per: float
    until: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets that apply to one crew's runs. `senders`: by `Envelope.source`, over all crews together."""

    crew: Budget | None = None
    senders: Mapping[str, Budget] = field(default_factory=dict)


UNLIMITED = Budgets()
