"""The pytest plugin: a stand-in for the crew API, and a whole bridge in front of it, each in a thread of its own.

Pytest imports this module in every project of an environment, so it imports the rest only for a test that uses it.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bridge.testing import CrewApi, RunningBridge


@pytest.fixture
def crew_api_settings() -> Mapping[str, Any]:
    """Override it to configure the crew: fields of `SandboxSettings`, such as `{"inputs": ("title", "text")}`."""
    return {}


@pytest.fixture
def crew_api(crew_api_settings: Mapping[str, Any]) -> "Iterator[CrewApi]":
    """A stand-in for the crew API that runs no model and costs nothing."""
    from bridge.testing.crew_api import running_crew_api  # noqa: PLC0415 - see above

    with running_crew_api(**crew_api_settings) as running:
        yield running


@pytest.fixture
def kickoff_bridge_settings() -> Mapping[str, Any]:
    """Override it to configure the bridge: settings as in its file, such as `{"crews": {"triage": {}}}`."""
    return {}


@pytest.fixture
def kickoff_bridge(crew_api: "CrewApi", kickoff_bridge_settings: Mapping[str, Any]) -> "Iterator[RunningBridge]":
    """A whole bridge in front of `crew_api`, on a free port, with a store that ends with the test."""
    from bridge.testing.bridge import running_bridge  # noqa: PLC0415 - see above

    with running_bridge(crew_api, kickoff_bridge_settings) as running:
        yield running
