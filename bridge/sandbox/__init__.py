"""Simulate the crew API for tests and trials, without importing anything else from the bridge."""

from bridge.sandbox.server import running, serve
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.times import parse_run_time

__all__ = ["SandboxSettings", "parse_run_time", "running", "serve"]
