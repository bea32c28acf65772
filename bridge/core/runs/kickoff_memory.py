"""Estimates the memory of a run from its claim until the response to its POST."""

from bridge.core.json import encoded_bytes
from bridge.core.runs.model import Run

MAX_BYTES = 96 * 1024 * 1024
"""For all crews. Each has an equal part, and may start at least one run at a time."""
LARGE = 1024 * 1024  # bytes; the end of such a run triggers another claim
INPUTS_FACTOR = 6  # copies: as stored, as text of up to four bytes per character, and as sent
META_FACTOR = 30  # parsed objects take up to 30 times the bytes of their text


def estimate_bytes(run: Run) -> int:
    """Return the memory of a claimed run, in bytes."""
    return INPUTS_FACTOR * encoded_bytes(run.request.inputs) + META_FACTOR * encoded_bytes(run.request.meta)
