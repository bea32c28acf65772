"""What the process is to the machine that it runs on: signals, core dumps."""

import resource
import signal
from pathlib import Path

from tests.acceptance.harness import Daemon


async def test_a_hangup_stops_it_as_any_signal_to_stop_and_no_core_is_dumped(tmp_path: Path, crew_url: str) -> None:
    """SIGHUP ended the process in the middle of a POST; a core dump held every token."""
    daemon = Daemon(tmp_path, crew_url)
    await daemon.start()
    try:
        core = resource.prlimit(daemon.pid, resource.RLIMIT_CORE)
        daemon.send(signal.SIGHUP)
        assert await daemon.ended(within=60) == 0
    finally:
        await daemon.close()
    assert (core, daemon.log_events()["stopped"]) == ((0, 0), 1)
