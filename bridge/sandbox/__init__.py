"""A stand-in for the crew API, for tests and for trying things out; it knows nothing of the bridge."""

from bridge.sandbox.server import running, serve
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.times import parse_run_time

__all__ = ["SandboxSettings", "parse_run_time", "running", "serve"]
