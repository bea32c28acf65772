"""Settings for all tests.

Hypothesis has no time limit per example, because a busy machine may take any time. Tests marked `nightly` run only with
`FAULTS=full`, or if `-m` is given.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("bridge", deadline=None)
settings.load_profile("bridge")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("FAULTS") != "full" and not config.option.markexpr:
        config.option.markexpr = "not nightly"
