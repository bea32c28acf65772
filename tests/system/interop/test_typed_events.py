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


WRONG = [("data.result;", "data.reslt;"), ("run.timed_out", "run.timedout"), ("error.code", "result.code")]
"""What the example contains, and a misspelling of it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, no_javascript: str | None) -> Path:
    """A folder with the generated types, the example, and one with each misspelling."""
    if no_javascript is not None:
        pytest.skip(no_javascript)
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "events.schema.json").write_text(json.dumps(event_schema()))
    [command] = re.findall(r"^npx json-schema-to-typescript (.*) > events.ts$", PAGE, re.MULTILINE)
    generated = run(folder, "json2ts", *command.split())
    assert generated.returncode == 0, generated.stderr
    (folder / "events.ts").write_text(generated.stdout)
    [example] = re.findall(r"^```ts\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (folder / "example.ts").write_text(example)
    for number, (right, wrong) in enumerate(WRONG):
        assert right in example
        (folder / f"wrong-{number}.ts").write_text(example.replace(right, wrong))
    return folder


def run(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (str(javascript.FOLDER / "node_modules" / ".bin" / program), *arguments)
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


def test_the_example_compiles_and_none_with_a_misspelled_member_or_type(folder: Path):
    wrong = [f"wrong-{number}.ts" for number in range(len(WRONG))]
    done = run(folder, "tsc", "--strict", "--noEmit", "--types", "", "example.ts", *wrong)
    assert sorted(set(re.findall(r"^([\w-]+\.ts)\(\d+,\d+\): error", done.stdout, re.MULTILINE))) == wrong, done.stdout


def test_the_types_have_names(folder: Path):
    text = (folder / "events.ts").read_text()
    assert [name for name in TYPES if f"export interface {name} " not in text] == []
    assert "[k: string]: unknown;\n  };\n  error" not in text, "a result can be any JSON, not only an object"
