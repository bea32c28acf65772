"""Time limits of tests."""

PATIENCE = 240.0
"""Seconds that only a hang takes, even on a busy machine that is several times slower than a developer's."""


def patience_with(count: int) -> float:
    """The limit for this many runs or events."""
    return PATIENCE + count / 10
