"""Fixtures of interop tests: one broker, and one pass through the bridge for each event mode."""

import pytest

from tests.broker import Broker
from tests.system.interop import javascript
from tests.system.interop.environment import Results, collected


@pytest.fixture(scope="session")
def no_javascript() -> str | None:
    """Why the scripts cannot be run; None if they can."""
    return javascript.why_not()


@pytest.fixture
def with_javascript(no_javascript: str | None) -> None:
    if no_javascript is not None:
        pytest.skip(no_javascript)


@pytest.fixture(scope="session")
def structured(shared_broker: Broker, tmp_path_factory: pytest.TempPathFactory, no_javascript: str | None) -> Results:
    folder = tmp_path_factory.mktemp("structured")
    return collected(folder, shared_broker.url, "structured", with_javascript=no_javascript is None)


@pytest.fixture(scope="session")
def binary(shared_broker: Broker, tmp_path_factory: pytest.TempPathFactory, no_javascript: str | None) -> Results:
    folder = tmp_path_factory.mktemp("binary")
    return collected(folder, shared_broker.url, "binary", with_javascript=no_javascript is None)


@pytest.fixture(params=["structured", "binary"])
def results(request: pytest.FixtureRequest) -> Results:
    """Of each mode in turn."""
    found: Results = request.getfixturevalue(request.param)
    return found
