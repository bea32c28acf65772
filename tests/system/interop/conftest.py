"""One broker and one pass through the bridge for each event mode, which all tests look at."""

from collections.abc import Iterator

import pytest

from tests.broker import Broker, running_broker
from tests.system.interop import javascript
from tests.system.interop.scene import Harvest, gathered


@pytest.fixture(scope="session")
def no_javascript() -> str | None:
    """Why the scripts cannot be run; None if they can."""
    return javascript.why_not()


@pytest.fixture
def with_javascript(no_javascript: str | None) -> None:
    if no_javascript is not None:
        pytest.skip(no_javascript)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    try:
        with running_broker() as broker:
            yield broker
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def structured(broker: Broker, tmp_path_factory: pytest.TempPathFactory, no_javascript: str | None) -> Harvest:
    folder = tmp_path_factory.mktemp("structured")
    return gathered(folder, broker.url, "structured", with_javascript=no_javascript is None)


@pytest.fixture(scope="session")
def binary(broker: Broker, tmp_path_factory: pytest.TempPathFactory, no_javascript: str | None) -> Harvest:
    folder = tmp_path_factory.mktemp("binary")
    return gathered(folder, broker.url, "binary", with_javascript=no_javascript is None)


@pytest.fixture(params=["structured", "binary"])
def harvest(request: pytest.FixtureRequest) -> Harvest:
    """Of each mode in turn."""
    found: Harvest = request.getfixturevalue(request.param)
    return found
