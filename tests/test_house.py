"""The house rules: imports go down, files are small and say their duty, the table of arrows is whole."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from bridge.core.lifecycle import TRANSITIONS
from bridge.core.model import FINAL_STATES, State

HOUSE = Path(__file__).parents[1]
FILES = sorted(path for folder in ("bridge", "tests") for path in (HOUSE / folder).rglob("*.py"))
MAX_LINES = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(HOUSE))


def test_imports_only_go_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Every contract of `[tool.importlinter]` is kept."""
    monkeypatch.chdir(HOUSE)
    verdict = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert verdict == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_longer_than_a_reader_can_hold(path: Path):
    # Tables of cases may be long; code may not.
    assert len(path.read_text().splitlines()) <= MAX_LINES * (2 if "tests" in path.parts else 1)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_its_duty_in_its_first_line(path: Path):
    source = path.read_text()
    if not source.strip() and path.name == "__init__.py" and "tests" in path.parts:
        return
    first, *_ = (ast.get_docstring(ast.parse(source)) or "").splitlines() or [""]
    assert len(first) > 15
    assert first[-1] in ".:;"


def test_the_table_of_arrows_covers_every_state():
    assert set(TRANSITIONS) == set(State)


def test_no_arrow_leads_out_of_a_final_state():
    assert {state for state in State if not TRANSITIONS[state]} == FINAL_STATES
