"""Jitter computed from an id and a count, so that a decision can be repeated and tested."""

import hashlib


def spread(run_id: str, now: float, over: float) -> float:
    """A moment within `over` seconds from now, so that many runs taken up at once are not looked at all at once."""
    return now + over * fraction(run_id, 0)


def _jitter(key: str, count: int, width: float) -> float:
    """A factor between 1 - width and 1 + width."""
    return 1.0 + width * (2.0 * fraction(key, count) - 1.0)


def fraction(key: str, count: int) -> float:
    """A number from 0 up to 1, evenly spread over keys and counts."""
    digest = hashlib.blake2b(f"{key}:{count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
