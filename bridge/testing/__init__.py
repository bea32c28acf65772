"""Test your own service against a crew that costs nothing: docs/testing.md.

The pytest plugin provides the fixtures `crew_api` and `kickoff_bridge`; `make_event` and `make_callback` are for unit
tests of a receiver. Nothing is imported before it is used, because pytest loads the plugin in every project of an
environment.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.config.placeholders import CALLBACK_SECRET
    from bridge.testing.bridge import RunningBridge, running_bridge
    from bridge.testing.callbacks import Callback, make_callback, make_event
    from bridge.testing.crew_api import CrewApi, running_crew_api

__all__ = [
    "CALLBACK_SECRET",
    "Callback",
    "CrewApi",
    "RunningBridge",
    "make_callback",
    "make_event",
    "running_bridge",
    "running_crew_api",
]

_MODULES = {
    "CALLBACK_SECRET": "callbacks",
    "Callback": "callbacks",
    "CrewApi": "crew_api",
    "RunningBridge": "bridge",
    "make_callback": "callbacks",
    "make_event": "callbacks",
    "running_bridge": "bridge",
    "running_crew_api": "crew_api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bridge.testing.{_MODULES[name]}"), name)
