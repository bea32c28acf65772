"""Fixtures of fault tests: the scenario, its size, and the table of results."""

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.faults.harness import HEAD, RULE, KillableDaemon, Scenario, Tally, receiver

OpenScenario = Callable[..., AbstractAsyncContextManager[Scenario]]


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the test runs at full size (`make faults`), or at that of `make test`."""
    return os.environ.get("FAULTS") == "full"


@pytest.fixture
def seed() -> int:
    """`SEED=…` repeats a test."""
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture
def open_scenario(
    tmp_path: Path,
    amqp: str,
    seed: int,
    record_property: Callable[[str, object], None],
) -> OpenScenario:
    """Builds a scenario.

    `kickoff_delay` in seconds; `bridge_amqp` is the broker URL of the bridge, `store` the path of its store, `run_time`
    the duration of executions, in the format of the sandbox.
    """

    @asynccontextmanager
    async def opened(
        name: str,
        kickoff_delay: float = 0.0,
        bridge_amqp: str | None = None,
        store: Path | None = None,
        run_time: str = "uniform:0.1:1",
    ) -> AsyncIterator[Scenario]:
        print(f"seed {seed}")
        crew = SandboxSettings(
            run_time=parse_run_time(run_time),
            inputs=("n",),
            seed=seed,
            kickoff_delay=kickoff_delay,
            ledger_file=tmp_path / "ledger",
        )
        async with running(crew) as crew_url, receiver() as callbacks:
            daemon = KillableDaemon(
                tmp_path / "bridge",
                crew_url,
                {"callback_url": callbacks.url},
                amqp={"url": bridge_amqp or amqp},
                callbacks={"allow_private": True},
                store={"url": f"sqlite:///{store or tmp_path / 'bridge' / 'bridge.db'}"},
            )
            tally = Tally(name)
            scenario = Scenario(daemon, amqp, crew_url, callbacks, random.Random(seed), tally)
            try:
                yield scenario
            finally:
                record_property("row", tally.row())
                await daemon.close()

    return opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; rows travel with the reports, because a test may have run in another process."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    rows = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "row"]
    if rows:
        terminalreporter.write_line("\n".join(["", HEAD, RULE, *sorted(set(rows))]))
