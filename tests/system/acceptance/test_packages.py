"""The wheel in a clean environment, without the checkout: what a server gets from `pip install`."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from email import message_from_bytes
from pathlib import Path

import pytest

from bridge import __version__
from tests.broker import free_ports
from tests.patience import PATIENCE
from tests.system.acceptance.harness import Daemon

ROOT = Path(__file__).parents[3]
NAME = f"kickoff_bridge-{__version__}"
UNREACHABLE = ("ConnectionError", "NewConnectionError", "No matching distribution", "Temporary failure")


def run(*command: str | Path, cwd: Path, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in this folder; the checkout is not importable there."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("BRIDGE_", "PYTHON", "COV"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=own | dict(environ or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the source distribution, built without any network."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def prefix(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel and its pinned dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    assert run(sys.executable, "-m", "venv", folder, cwd=folder).returncode == 0
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    assert run(*pip, "--no-deps", dist / f"{NAME}-py3-none-any.whl", cwd=folder).returncode == 0
    pinned = folder / "share" / "kickoff-bridge" / "requirements.txt"
    done = run(*pip, "--require-hashes", "--requirement", pinned, cwd=folder)
    if any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip("the dependencies cannot be fetched")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_packages_are_fit_for_an_index(dist: Path) -> None:
    done = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()), cwd=dist)
    assert done.returncode == 0, done.stdout

    with zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
        metadata = message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))
    assert metadata["Version"] == __version__
    assert {link.partition(",")[0] for link in metadata.get_all("Project-URL", [])} >= {"Source", "Changelog", "Issues"}
    assert "bridge/py.typed" in names
    assert [name for name in names if name.startswith(("tests/", "docs/"))] == []


def test_the_source_distribution_has_what_its_build_and_its_tests_need(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert names >= {"pyproject.toml", "Makefile", "requirements.txt", "CHANGELOG.md", "LICENSE", "deploy/compose.yaml"}
    assert not names & {"deploy/.env", "deploy/bridge.yaml", "bridge.yaml"}


@pytest.mark.nightly
def test_the_example_settings_come_with_it_and_are_checked(prefix: Path, tmp_path: Path) -> None:
    example = prefix / "share" / "kickoff-bridge" / "bridge.example.yaml"
    command = (prefix / "bin" / "kickoff-bridge", "check", "--config", example)
    refused = run(*command, cwd=tmp_path)
    secrets = {"RESEARCH_TOKEN": "one", "ORDERS_TOKEN": "two", "OPERATOR_TOKEN": "three"}
    secrets |= {"CALLBACK_SECRET": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
    accepted = run(*command, cwd=tmp_path, environ=secrets)

    assert (refused.returncode, accepted.returncode) == (78, 0), refused.stderr + accepted.stderr
    assert "RESEARCH_TOKEN" in refused.stderr or "crews.research.token" in refused.stderr
    assert {path.name for path in example.parent.iterdir()} == {
        "bridge.example.yaml",
        "grafana.json",
        "kickoff-bridge.service",
        "prometheus-rules.yaml",
        "requirements.txt",
    }


@pytest.mark.nightly
def test_the_demo_runs_without_a_checkout(prefix: Path, tmp_path: Path) -> None:
    done = run(prefix / "bin" / "kickoff-bridge", "demo", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "run.succeeded" in done.stdout
    assert list(tmp_path.iterdir()) == []


class Installed(Daemon):
    """The daemon of the wheel."""

    def __init__(self, prefix: Path, folder: Path, crew_url: str) -> None:
        super().__init__(folder, crew_url, port=free_ports(1)[0])
        self._prefix = prefix

    def command(self) -> list[str]:
        _, *rest = super().command()
        return [str(self._prefix / "bin" / "python"), "-P", *rest]


@pytest.mark.nightly
async def test_the_daemon_runs_without_a_checkout(
    prefix: Path, tmp_path: Path, crew_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    daemon = Installed(prefix, tmp_path, crew_url)
    await daemon.start()
    try:
        _, document = await daemon.get("/openapi.json")
        _, console = await daemon.get("/")
    finally:
        code = await daemon.terminate()

    assert (document["info"]["version"], code) == (__version__, 0)
    assert "<html" in console
    [line] = [line for line in map(json.loads, daemon.log().splitlines()) if line["event"] == "started"]
    assert line["version"] == __version__
