"""Run a sandbox and a bridge together in one process, to try the bridge and to test services against it."""

from bridge.local.situations import SITUATIONS, Situations
from bridge.local.start import Deployment, Local, local_bridge

__all__ = ["SITUATIONS", "Deployment", "Local", "Situations", "local_bridge"]
