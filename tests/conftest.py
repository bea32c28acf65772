"""Settings for all tests.

Hypothesis has no time limit per example, because a busy machine may take any time, and repeats a few examples; with
`FAULTS=full` it draws many new ones. Tests marked `nightly` run only with `FAULTS=full`, or if `-m` is given.
"""

import os

import pytest
from hypothesis import settings

FULL = os.environ.get("FAULTS") == "full"
settings.register_profile("few", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("many", deadline=None, max_examples=1000)
settings.load_profile("many" if FULL else "few")


def pytest_configure(config: pytest.Config) -> None:
    if not FULL and not config.option.markexpr:
        config.option.markexpr = "not nightly"
