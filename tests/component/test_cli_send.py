"""`send` waits for a bridge that is still starting, and says so."""

import pytest

from bridge.cli import send as command
from bridge.cli._client import BridgeClient, Json, NotListening
from bridge.cli._errors import Exit
from bridge.cli._output import progress_text

RUN = {"run_id": "an-id", "crew": "research", "state": "accepted"}


class StartingBridge(BridgeClient):
    """Refuses the first connections."""

    def __init__(self, refusals: int) -> None:
        super().__init__("http://127.0.0.1:8080", None)
        self.refusals = refusals

    def submit(self, request: Json) -> Json:
        if self.refusals:
            self.refusals -= 1
            raise NotListening(Exit.UNAVAILABLE, "no response")
        return RUN


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "STARTUP_INTERVAL", 0.0)


@pytest.mark.parametrize(("refusals", "lines"), [(0, 0), (1, 1), (50, 1)])
def test_it_waits_and_says_so_once(refusals: int, lines: int, capsys: pytest.CaptureFixture[str]):
    assert command.submit_once_started({}, StartingBridge(refusals)) == RUN
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "no bridge at http://127.0.0.1:8080 yet; waiting up to 10 s for it to start\n" * lines


def test_it_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "STARTUP", 0.0)
    with pytest.raises(NotListening):
        command.submit_once_started({}, StartingBridge(1000))


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        ({"unit": "task", "completed": 2, "total": 3, "current": "review_task"}, "2/3 review_task"),
        ({"unit": "task", "completed": 0, "total": 3, "current": {"name": "a\nb"}}, "0/3 a b"),
        ({"unit": "task", "completed": 3, "total": 3, "current": None}, "3/3"),
        ({"unit": "step", "completed": 3, "total": None}, ""),
        (None, ""),
        ("half", ""),
    ],
)
def test_progress_names_the_current_task(progress: object, shown: str):
    assert progress_text(RUN | {"progress": progress}) == shown
