"""Budgets: how many runs of a crew, or of a sender, may start within a period. Further runs wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `runs` POSTs that started, or may have started, an execution within any `per` seconds."""

    runs: int
    per: float

    def next_start(self, waiting: int) -> tuple[int, float]:
        """Return when a run can start that has `waiting` others before it.

        The result is the past start to count from (0: the latest, 1: the one before it, …), and the seconds to wait
        after that start, or from now if there were fewer starts.
        """
        rounds, rest = divmod(waiting, self.runs)
        return self.runs - 1 - rest, rounds * self.per


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets that apply to one crew's runs. `senders`: by `Envelope.source`, over all crews together."""

    crew: Budget | None = None
    senders: Mapping[str, Budget] = field(default_factory=dict)

    def apply_to(self, sender: str) -> bool:
        """Return whether a budget limits the runs of this sender."""
        return self.crew is not None or sender in self.senders


UNLIMITED = Budgets()
