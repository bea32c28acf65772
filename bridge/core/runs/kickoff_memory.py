"""Estimate the memory that a run takes from its claim until its POST is answered."""

from bridge.core.json import encoded_bytes
from bridge.core.runs.model import Run

MAX_BYTES = 96 * 1024 * 1024
"""For all crews together. Each has an equal part, so that none waits for another, and may start one run at least."""
LARGE = 1024 * 1024  # bytes, from which a run may keep others waiting
INPUTS_FACTOR = 6  # inputs stay encoded: as stored, as text of up to four bytes a character, as sent
META_FACTOR = 30  # meta is parsed: an object takes thirty times the bytes of its text


def bytes_of(run: Run) -> int:
    """Return the bytes of memory that a claimed run takes."""
    return INPUTS_FACTOR * encoded_bytes(run.request.inputs) + META_FACTOR * encoded_bytes(run.request.meta)
