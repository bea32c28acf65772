"""The TypeScript example of docs/typed-events.md compiles with types that a common tool generates from the schema."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from bridge.documents import event_schema
from tests.system.interop import javascript

PAGE = (Path(__file__).parents[3] / "docs" / "typed-events.md").read_text("utf-8")
TYPES = ("Task", "RunError", "Question", "RunSucceeded", "DeliveryPaused")


@pytest.fixture
def folder(tmp_path: Path, with_javascript: None) -> Path:
    """A folder with the generated types and the example."""
    (tmp_path / "events.schema.json").write_text(json.dumps(event_schema()))
    [command] = re.findall(r"^npx json-schema-to-typescript (.*) > events.ts$", PAGE, re.MULTILINE)
    generated = run(tmp_path, "json2ts", *command.split())
    assert generated.returncode == 0, generated.stderr
    (tmp_path / "events.ts").write_text(generated.stdout)
    [example] = re.findall(r"^```ts\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "example.ts").write_text(example)
    return tmp_path


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (str(javascript.FOLDER / "node_modules" / ".bin" / program), *arguments)
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def compiled(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, "tsc", "--strict", "--noEmit", "--types", "", "example.ts")


def test_the_example_compiles(folder: Path):
    done = compiled(folder)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("data.result;", "data.reslt;"), ("run.timed_out", "run.timedout"), ("error.code", "result.code")],
)
def test_a_misspelled_member_or_type_does_not_compile(folder: Path, right: str, wrong: str):
    example = (folder / "example.ts").read_text()
    assert right in example
    (folder / "example.ts").write_text(example.replace(right, wrong))
    assert compiled(folder).returncode != 0


def test_the_types_have_names(folder: Path):
    text = (folder / "events.ts").read_text()
    assert [name for name in TYPES if f"export interface {name} " not in text] == []
    assert "[k: string]: unknown;\n  };\n  error" not in text, "a result can be any JSON, not only an object"
