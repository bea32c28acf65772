"""Jitter computed from an id and a count, so that a decision can be repeated and tested."""

import hashlib


def spread(run_id: str, now: float, over: float) -> float:
    """Return a time within `over` seconds from now that differs by run, so that runs claimed together do not burst."""
    return now + over * fraction(run_id, 0)


def factor(key: str, count: int, width: float) -> float:
    """Return a factor between 1 - width and 1 + width."""
    return 1.0 + width * (2.0 * fraction(key, count) - 1.0)


def fraction(key: str, count: int) -> float:
    """Return a number from 0 up to 1, uniformly distributed over keys and counts."""
    digest = hashlib.blake2b(f"{key}:{count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
