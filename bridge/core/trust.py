"""Whether a crew's webhooks can be relied on: only then are looks stretched."""

from dataclasses import dataclass

_WEIGHT = 0.1  # of the newest run
_ENOUGH = 0.8  # a crew is trusted from about the sixteenth announced end in a row on


@dataclass(slots=True)
class Trust:
    """The share of ends that a webhook announced before we found them, the newest counting most."""

    announced: float = 0.0

    @property
    def earned(self) -> bool:
        """Whether the next end will most likely be announced, too."""
        return self.announced >= _ENOUGH

    def ended(self, *, announced: bool) -> None:
        """A run ended."""
        self.announced += _WEIGHT * (float(announced) - self.announced)
