"""A bug while secrets are renewed costs one part its new secrets for the moment, and nothing else."""

from typing import Any

from bridge.config import SecretWatch
from bridge.core.runs.quarantine import Quarantined
from tests.fakes import Faults


class Renewable:
    files = ("token",)

    def __init__(self) -> None:
        self.bug: Exception | None = None

    def renewed(self) -> tuple[Any, list[str]]:
        if self.bug is not None:
            raise self.bug
        return "new settings", []


async def test_one_part_that_fails_does_not_keep_the_others_from_their_secrets() -> None:
    renewed: list[Any] = []
    faults = Faults()

    def fails(_: Any) -> None:
        raise ZeroDivisionError

    renewable: Any = Renewable()
    tracked = SecretWatch(renewable, [fails, renewed.append], faults)
    await tracked.check()
    assert renewed == ["new settings"]
    assert faults.kinds == [Quarantined.TASK]


async def test_files_that_cannot_be_read_for_whatever_reason_are_read_again() -> None:
    renewed: list[Any] = []
    faults = Faults()
    renewable: Any = Renewable()
    renewable.bug = ZeroDivisionError()
    tracked = SecretWatch(renewable, [renewed.append], faults)
    await tracked.check()
    renewable.bug = None
    await tracked.check()
    assert renewed == ["new settings"]
    assert faults.kinds == [Quarantined.TASK]
