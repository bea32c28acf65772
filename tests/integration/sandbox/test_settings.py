"""Invalid settings are refused when they are built."""

from typing import Any

import pytest

from bridge.sandbox import SandboxSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 1.1},
        {"kickoff_fault_rate": -0.1},
        {"status_fault_rate": 2},
        {"kind": "team"},
        {"token": ""},
        {"workers": 0},
        {"kickoff_delay": -1},
    ],
)
def test_an_invalid_setting_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SandboxSettings(**wrong)


def test_the_defaults_are_a_small_reliable_crew_on_loopback() -> None:
    settings = SandboxSettings()
    assert (settings.host, settings.port, settings.kind, settings.inputs) == ("127.0.0.1", 0, "crew", ("topic",))
    assert (settings.failure_rate, settings.kickoff_fault_rate, settings.status_fault_rate) == (0, 0, 0)
