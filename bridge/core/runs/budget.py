"""How many runs may be started in how much time: of a crew, and on behalf of a sender. Beyond it runs wait."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `runs` POSTs that started, or may have started, an execution within any `per` seconds."""

    runs: int
    per: float

    def next_start(self, waiting: int) -> tuple[int, float]:
        """When a run starts that comes after so many others.

        Gives the start that it waits for, counted back from the latest one (0: the latest itself), and for how many
        seconds it waits from that start on, or from now if there were not so many.
        """
        rounds, rest = divmod(waiting, self.runs)
        return self.runs - 1 - rest, rounds * self.per


@dataclass(frozen=True, slots=True)
class Budgets:
    """What limits the starts of one crew's runs. `senders`: by `Envelope.source`, over all crews together."""

    crew: Budget | None = None
    senders: Mapping[str, Budget] = field(default_factory=dict)

    def apply_to(self, sender: str) -> bool:
        """Whether anything limits the runs of this sender."""
        return self.crew is not None or sender in self.senders


UNLIMITED = Budgets()
