"""The systemd unit: it verifies, is well confined, and agrees with the bridge on time limits, exit codes, and paths."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli._errors import Exit
from bridge.observability.watchdog import STALLED_AFTER
from bridge.supervisor import GRACE

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "kickoff-bridge.service"
COMMAND = "/opt/kickoff-bridge/bin/kickoff-bridge"
WORST_EXPOSURE = 2.0  # of 10; systemd calls less than this "OK"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def setting(name: str) -> str:
    """The one value of a setting of the unit."""
    [value] = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `systemd-analyze` on the unit, with a program that is installed here."""
    copy = folder / UNIT.name
    copy.write_text(UNIT.read_text().replace(COMMAND, sys.executable))
    command = ["systemd-analyze", *arguments, str(copy)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    done = analyze(tmp_path, "verify", "--recursive-errors=no")

    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_bridge_is_confined(tmp_path: Path) -> None:
    output = analyze(tmp_path, "security", "--offline=true", "--no-pager").stdout
    [exposure] = re.findall(r"Overall exposure level for \S+ ([\d.]+)", output)

    assert float(exposure) < WORST_EXPOSURE


def test_the_unit_gives_the_bridge_enough_time() -> None:
    assert int(setting("TimeoutStopSec").removesuffix("s")) > GRACE
    assert int(setting("WatchdogSec").removesuffix("s")) > STALLED_AFTER  # the stack is logged before it is killed


def test_it_is_not_restarted_where_that_does_not_help() -> None:
    prevented = {int(code) for code in setting("RestartPreventExitStatus").split()}

    assert prevented == {Exit.USAGE, Exit.STORE_DAMAGED, Exit.CONFIGURATION}


def test_the_settings_file_is_where_the_image_has_it() -> None:
    assert setting("Environment") in (ROOT / "Dockerfile").read_text()
