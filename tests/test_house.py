"""House rules: file sizes, docstrings, private names, transitions, the kill points of fault tests, and mutants.

`make check` checks the import contracts in another process, because the linter disables all loggers.
"""

import re
from pathlib import Path

from bridge.core.runs.model import FINAL_STATES, State
from bridge.core.runs.state_machine import TRANSITIONS
from tests.mutants.mutants import MUTANTS
from tests.system.faults.daemon import POINTS

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("bridge", "tests") for path in (ROOT / folder).rglob("*.py"))
MAX_LINES = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_too_long():
    # Tables of cases may be long; code may not.
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}

    assert [name_of(path) for path in FILES if lengths[path] > MAX_LINES * (2 if "tests" in path.parts else 1)] == []


def test_the_first_line_of_each_module_states_its_duty():
    assert [name_of(path) for path in FILES if not _is_empty_test_package(path) and not _states_duty(path)] == []


def test_the_table_of_transitions_covers_every_state():
    assert set(TRANSITIONS) == set(State)


def test_no_transition_leads_out_of_a_final_state():
    assert {state for state in State if not TRANSITIONS[state]} == FINAL_STATES


def test_the_method_of_each_kill_point_exists():
    assert [point for point, (_, owner, name, *_) in POINTS.items() if not hasattr(owner, name)] == []


def test_the_text_that_each_mutant_changes_exists_once_and_its_tests_exist():
    """A mutant whose text is gone would only be noticed at night."""
    counts = {mutant.name: (ROOT / mutant.file).read_text().count(mutant.old) for mutant in MUTANTS}

    assert [name for name, count in counts.items() if count != 1] == []
    files = {part for mutant in MUTANTS for part in mutant.command if part.endswith(".py")}
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_no_test_names_a_private_attribute():
    """Ruff rejects private access (SLF001); this rejects its exceptions and names in strings, as for `setattr`."""
    found = re.compile(r'noqa:.*SLF001|(setattr|getattr|before|after|amid)\([^()]*"_[a-z]')
    tests = [path for path in FILES if "tests" in path.relative_to(ROOT).parts and path != Path(__file__)]
    assert [name_of(path) for path in tests if found.search(path.read_text())] == []


def _is_empty_test_package(path: Path) -> bool:
    return path.name == "__init__.py" and "tests" in path.parts and not path.read_text().strip()


def _states_duty(path: Path) -> bool:
    found = re.match(r'(?:#.*\n)*"""(.{15,}[.:;])(?:"""|\n)', path.read_text())
    return found is not None
