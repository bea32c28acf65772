"""How long tests wait for what must come."""

PATIENCE = 240.0
"""Seconds that only a hang takes, even on a machine that is several times slower than a developer's and busy."""


def patience_with(count: int) -> float:
    """The same for that many runs or events."""
    return PATIENCE + count / 10
