"""Settings for all tests, and the servers.

Hypothesis has no time limit per example, because a busy machine may take any time, and repeats a few examples; with
`FAULTS=full` it draws many new ones. Tests marked `nightly` run only with `FAULTS=full`, or if `-m` is given.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.broker import Broker, running_broker
from tests.postgres import PostgresServer, running_postgres

FULL = os.environ.get("FAULTS") == "full"
settings.register_profile("few", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("many", deadline=None, max_examples=1000)
settings.load_profile("many" if FULL else "few")


PLAIN = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], PLAIN])  # Rich takes a second per traceback


def pytest_configure(config: pytest.Config) -> None:
    if not FULL and not config.option.markexpr:
        config.option.markexpr = "not nightly"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job, whose child processes inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Exempt what the tests import from garbage collection, which takes a tenth of their time otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _log_configuration() -> Iterator[None]:
    """Undo what a test, or a command that it runs in this process, has configured."""
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[Broker]:
    """The one RabbitMQ of this process; tests use names or virtual hosts of their own."""
    try:
        with running_broker() as broker:
            yield broker
    except FileNotFoundError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresServer]:
    """The one PostgreSQL of this process; tests use databases of their own."""
    with running_postgres() as server:
        yield server
