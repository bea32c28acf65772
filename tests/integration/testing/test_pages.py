"""The tests in docs/testing.md, and at the top of docs/sandbox.md, run as published, also from the wheel alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


SERVICE, TESTS = python_blocks("testing.md")[:2]
FIRST = python_blocks("sandbox.md")[0]
ONLY_OURS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p kickoff-bridge"}
"""Pytest loads the plugins of this environment, which others need, without these variables."""
MISTAKES = {
    "does not verify": (".verify(body, dict(self.headers))", ""),
    "takes a failure for an answer": ("if isinstance(event, RunSucceeded):", "if event:"),
    "keeps answers of all topics as one": ("answers[event.data.idempotency_key]", 'answers["answer"]'),
}


def write(folder: Path, service: str = SERVICE) -> None:
    (folder / "answers.py").write_text(service)
    (folder / "test_answers.py").write_text(TESTS)
    (folder / "test_crew.py").write_text(FIRST)


def pytest_in(folder: Path, python: str = sys.executable, **environ: str) -> tuple[int, str]:
    """Run the tests of a folder that knows nothing of this project; return the exit code, and what pytest printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    command = [python, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, env=inherited | environ, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_published_tests_pass(tmp_path: Path):
    assert len(SERVICE.splitlines()) <= 31, "the page says thirty"
    write(tmp_path)
    code, printed = pytest_in(tmp_path, **ONLY_OURS)
    assert (code, "5 passed" in printed) == (0, True), printed


@pytest.mark.nightly
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_published_tests_find_a_mistake(tmp_path: Path, mistake: str):
    right, wrong = MISTAKES[mistake]
    assert right in SERVICE
    write(tmp_path, SERVICE.replace(right, wrong))
    code, printed = pytest_in(tmp_path, **ONLY_OURS)
    assert (code, "failed" in printed) == (1, True), printed


@pytest.mark.nightly
def test_the_published_tests_pass_in_a_clean_environment_with_the_wheel(tmp_path: Path):
    """At night, because it downloads and installs everything that the package needs, which takes a minute."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "clean")], check=True)
    python = str(tmp_path / "clean" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[testing]"], check=True)
    folder = tmp_path / "service"
    folder.mkdir()
    write(folder)
    code, printed = pytest_in(folder, python)
    assert (code, "5 passed" in printed) == (0, True), printed
